"""What a small cohort needs: smoothing, size of the validation part, optimiser, choice of epoch.

    OMP_NUM_THREADS=1 python scripts/benchmark/small_cohort.py logs/small_cohort
    OMP_NUM_THREADS=1 python scripts/benchmark/small_cohort.py logs/small_cohort --report-only

Cohorts of 100 bags of about 100 nuclei with a radius graph, in five folds. A nucleus has 16 normal
features, and each bag an offset of its own, as slides have from staining. In a positive bag the
nuclei of a round region lie higher in four of the features, by 1 standard deviation in a `faint`
cohort and by more in a `clear` one; everywhere some lie higher in two, so that a nucleus alone says
little. Features are standardised by the training part. Every epoch's predictions of the validation
and the test part are kept, so that one training serves all ways of choosing the epoch.

The command runs all settings and prints the tables. There is one file per fold: run again, it does
what is left.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import milforge
from milforge.api.build import build_network
from milforge.data import Bag, BagBatch, collate_bags
from milforge.functional import segment_softmax
from milforge.graph import build_adjacency

BAGS, WIDTH, FOLDS = 100, 16, 5
SHIFTS = {"clear": 1.6, "faint": 1.0}
NO_ENCODER = "model/encoder=flatten"
MODELS = {
    "abmil": ["model=abmil"],
    "abmil, no encoder": ["model=abmil", NO_ENCODER],
    "sm_abmil": ["model=sm_abmil"],
    "sm_abmil, no encoder": ["model=sm_abmil", NO_ENCODER],
    "sm_abmil, spectral norm": ["model=sm_abmil", "model.pool.spectral_norm=true"],
    "sm_abmil, tanh": ["model=sm_abmil", "model.pool.act=tanh"],
    "sm_abmil, alpha 0.5": ["model=sm_abmil", "model.pool.sm_alpha=0.5"],
}


class Optimiser(NamedTuple):
    """Of Adam; a step on one bag is an eighth of one on 8 bags, so that there are fewer epochs."""

    lr: float
    decay: float
    bags: int
    epochs: int


OURS, REFERENCE = Optimiser(1e-3, 0.0, 8, 20), Optimiser(5e-4, 1e-3, 1, 8)
# Without an encoder a step is cheap, and many more are needed.
OURS_LONG, REFERENCE_LONG = OURS._replace(epochs=100), REFERENCE._replace(epochs=40)


class Setting(NamedTuple):
    """What is trained."""

    model: str
    optimiser: Optimiser = OURS
    val: int = 10

    @property
    def file(self) -> str:
        """Part of the name of its files."""
        steps = f"{self.optimiser.bags}x{self.optimiser.epochs}"
        return f"{self.model}_{steps}_{self.val}".replace(" ", "")


BASE, PLAIN = Setting("sm_abmil"), ("abmil", "sm_abmil")
BOTH = {val: [Setting(model, val=val) for model in PLAIN] for val in (10, 20)}
SETTINGS = (
    *(Setting(model, OURS_LONG if "no encoder" in model else OURS) for model in MODELS),
    *(Setting(model, val=20) for model in PLAIN),
    *(Setting(model, REFERENCE) for model in PLAIN),
    Setting("sm_abmil, no encoder", REFERENCE_LONG),
)


@cache
def make_cohort(kind: str, seed: int) -> list[Bag]:
    rng = np.random.default_rng(seed)
    bags = []
    for index in range(BAGS):
        size = int(np.clip(rng.lognormal(4.5, 0.5), 20, 400))
        side = 10 * np.sqrt(size)
        places = rng.uniform(0, side, (size, 2))
        x = rng.standard_normal((size, WIDTH)) + 0.3 * rng.standard_normal(WIDTH)
        x[rng.random(size) < 0.1, :2] += 1.5
        y = index % 2
        far = np.linalg.norm(places - rng.uniform(0.2 * side, 0.8 * side, 2), axis=1)
        inside = far < 0.2 * side if y else np.zeros(size, bool)
        x[inside, :4] += SHIFTS[kind]
        coords = torch.from_numpy(places.astype(np.float32))
        adj = build_adjacency(coords, method="radius", radius=15.0)
        bags.append(
            Bag(
                torch.from_numpy(x.astype(np.float32)), y, adj, coords, torch.from_numpy(inside * 1)
            )
        )
    return bags


def parts_of(seed: int, fold: int, val: int) -> tuple[list[int], list[int], list[int]]:
    """Bags of training, validation and test, with as many of each class."""
    rng = np.random.default_rng(1000 + seed)
    pairs = rng.permutation(BAGS // 2)
    test = pairs[fold * BAGS // 2 // FOLDS : (fold + 1) * BAGS // 2 // FOLDS]
    rest = [pair for pair in pairs if pair not in test]
    both = [[2 * int(p) + y for p in part for y in (0, 1)] for part in (rest, test)]
    return both[0][val:], both[0][:val], both[1]


@cache
def config_of(model: str) -> Any:
    return milforge.compose("train", [*MODELS[model], "graph=radius"])


def train(bags: Sequence[Bag], setting: Setting, fold: int, seed: int) -> dict[str, list[Any]]:
    """Logits of validation and test after each epoch, and how well attention finds the region."""
    lr, decay, size, epochs = setting.optimiser
    train_part, val_part, test_part = parts_of(seed, fold, setting.val)
    table = torch.cat([bags[i].x for i in train_part])
    mean, std = table.mean(0), table.std(0)
    scaled = [replace(bag, x=(bag.x - mean) / std) for bag in bags]
    validation, test = (collate_bags([scaled[i] for i in part]) for part in (val_part, test_part))
    torch.manual_seed(seed)
    network = build_network(config_of(setting.model), (WIDTH,), 1, 0)
    adam = torch.optim.Adam(network.parameters(), lr=lr, weight_decay=decay)
    found: dict[str, list[Any]] = {"val": [], "test": [], "inst": []}
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(train_part)).split(size):
            batch = collate_bags([scaled[train_part[i]] for i in rows])
            assert isinstance(batch.y, torch.Tensor)
            logits = network(batch).logits[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, batch.y.float())
            adam.zero_grad()
            loss.backward()
            adam.step()
        network.eval()
        with torch.no_grad():
            found["val"].append(network(validation).logits[:, 0].tolist())
            output = network(test)
            found["test"].append(output.logits[:, 0].tolist())
            found["inst"].append(localisation(output.scores, test))
    return found


def localisation(scores: torch.Tensor, batch: BagBatch) -> float:
    """AUROC of the attention in a positive bag, the mean over them."""
    weights = segment_softmax(scores, batch.ptr)
    assert isinstance(batch.y_inst, torch.Tensor)
    bounds = zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)
    pairs = [(batch.y_inst[i:j].numpy(), weights[i:j].numpy()) for i, j in bounds]
    return float(np.mean([roc_auc_score(y, w) for y, w in pairs if 0 < y.sum() < len(y)]))


def smooth(values: np.ndarray, width: int = 3) -> np.ndarray:
    """Means of an epoch and those before it."""
    return np.array([values[max(0, i + 1 - width) : i + 1].mean() for i in range(len(values))])


def loss_of(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`(E, n)` to `(E,)`: mean cross-entropy."""
    return np.logaddexp(0, np.where(y, -logits, logits)).mean(1)


def auroc_of(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([roc_auc_score(y, each) for each in logits])


CHOICES: Mapping[str, Callable[[np.ndarray, np.ndarray], int]] = {
    "val/loss": lambda logits, y: int(loss_of(logits, y).argmin()),
    "val/loss, mean of 3": lambda logits, y: int(smooth(loss_of(logits, y)).argmin()),
    "val/auroc": lambda logits, y: int(auroc_of(logits, y).argmax()),
    "val/auroc, mean of 3": lambda logits, y: int(smooth(auroc_of(logits, y)).argmax()),
    "last": lambda logits, y: len(logits) - 1,
}


def path_of(folder: Path, setting: Setting, kind: str, seed: int, fold: int) -> Path:
    return folder / f"{setting.file}_{kind}_{seed}_{fold}.json"


def run(folder: Path, cohorts: int) -> None:
    """Trains what is left, all settings on one cohort before the next."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(cohorts):
        for kind in SHIFTS:
            for setting in SETTINGS:
                for fold in range(FOLDS):
                    path = path_of(folder, setting, kind, seed, fold)
                    if not path.exists():
                        found = train(make_cohort(kind, seed), setting, fold, seed)
                        path.write_text(json.dumps(found))


class Found(NamedTuple):
    """Of one cohort at the chosen epochs, the five folds together."""

    logits: np.ndarray
    localisation: float


def chosen(folder: Path, setting: Setting, kind: str, seed: int, choice: str) -> Found | None:
    """None where a fold is missing."""
    paths = [path_of(folder, setting, kind, seed, fold) for fold in range(FOLDS)]
    if not all(path.exists() for path in paths):
        return None
    logits, regions = [], []
    for path in paths:
        each = json.loads(path.read_text())
        epoch = CHOICES[choice](np.array(each["val"]), np.arange(setting.val) % 2)
        logits.append(each["test"][epoch])
        regions.append(each["inst"][epoch])
    return Found(np.concatenate(logits), float(np.mean(regions)))


def differences(mine: Sequence[Found], base: Sequence[Found]) -> str:
    """AUROC above that of the base, 95% interval of a bootstrap of the bags of each cohort."""
    rng, y, drawn = np.random.default_rng(0), np.arange(BAGS) % 2, []
    for _ in range(500):
        means = []
        for a, b in zip(mine, base, strict=True):
            rows = np.concatenate([rng.choice(np.flatnonzero(y == c), BAGS // 2) for c in (0, 1)])
            of = [roc_auc_score(y[rows], each.logits[rows]) for each in (a, b)]
            means.append(of[0] - of[1])
        drawn.append(np.mean(means))
    low, high = np.percentile(drawn, [2.5, 97.5])
    middle = np.mean([numbers(a)[0] - numbers(b)[0] for a, b in zip(mine, base, strict=True)])
    return f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]"


def numbers(found: Found) -> tuple[float, float, float]:
    """AUROC, loss, localisation."""
    y = np.arange(BAGS) % 2
    loss = loss_of(found.logits[None], y)[0]
    return float(roc_auc_score(y, found.logits)), float(loss), found.localisation


def rows(
    folder: Path, kind: str, cohorts: int, choice: str
) -> Iterator[tuple[Setting, list[Found], list[Found]]]:
    """The settings that have cohorts in common with the base, and both on these."""
    for setting in SETTINGS:
        pairs = [
            (chosen(folder, setting, kind, seed, choice), chosen(folder, BASE, kind, seed, choice))
            for seed in range(cohorts)
        ]
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        if both:
            yield setting, [a for a, _ in both], [b for _, b in both]


def report(folder: Path, cohorts: int) -> None:
    """Prints a table per kind of cohort, and one of the ways of choosing the epoch."""
    for kind in SHIFTS:
        print(f"\n{kind}\n")
        print(
            "| model | lr, decay, bags, epochs | validation bags | cohorts | AUROC | loss |", end=""
        )
        print(" localisation | AUROC above `sm_abmil` [95%] |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
        for setting, mine, base in rows(folder, kind, cohorts, "val/loss"):
            lr, decay, bags, epochs = setting.optimiser
            cells = [f"{v:.3f}" for v in np.mean([numbers(each) for each in mine], axis=0)]
            cells.append("" if setting == BASE else differences(mine, base))
            print(f"| {setting.model} | {lr:g}, {decay:g}, {bags}, {epochs} |", end="")
            print(f" {setting.val} | {len(mine)} |", end="")
            print(f" {' | '.join(cells)} |", flush=True)
    print("\n| epoch by | cohorts | validation bags | AUROC | loss | localisation |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for kind in SHIFTS:
        for val in BOTH:
            for choice in CHOICES:
                found = rows(folder, kind, cohorts, choice)
                each = [[numbers(f) for f in mine] for s, mine, _ in found if s in BOTH[val]]
                if each:
                    cells = [f"{v:.3f}" for v in np.mean(np.concatenate(each), axis=0)]
                    print(f"| {choice} | {kind} | {val} | {' | '.join(cells)} |")


def main() -> None:
    """Trains what is left, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cohorts", type=int, default=4, help="of each kind")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    if not options.report_only:
        run(options.folder, options.cohorts)
    report(options.folder, options.cohorts)


if __name__ == "__main__":
    main()
