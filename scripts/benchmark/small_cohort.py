"""What a small cohort needs: size of the validation part, choice of the epoch, optimiser.

    OMP_NUM_THREADS=1 python scripts/benchmark/small_cohort.py logs/small_cohort
    OMP_NUM_THREADS=1 python scripts/benchmark/small_cohort.py logs/small_cohort --report-only

Cohorts of 100 bags of about 100 nuclei with a radius graph, in five folds. A nucleus has 16 normal
features, and each bag an offset of its own, as slides have from staining. In a positive bag the
nuclei of a round region lie one deviation higher in four of the features; everywhere some lie
higher in two, so that a nucleus alone says little. Every epoch's predictions of the validation and
the test part are kept, so that one training serves all ways of choosing the epoch. Features are
standardised by the training part. One file a setting is written; run again, it does what is left.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import milforge
from milforge.api.build import build_network
from milforge.data import Bag, BagBatch, collate_bags
from milforge.functional import segment_softmax
from milforge.graph import build_adjacency

BAGS, WIDTH, FOLDS, EPOCHS = 100, 16, 5, 30
MODELS = {
    "abmil": ["model=abmil"],
    "gated_abmil": ["model=gated_abmil"],
    "sm_abmil": ["model=sm_abmil"],
    "sm_abmil, spectral norm": ["model=sm_abmil", "model.pool.spectral_norm=true"],
    "sm_abmil, no encoder": ["model=sm_abmil", "model/encoder=flatten"],
    "sm_abmil, tanh": ["model=sm_abmil", "model.pool.act=tanh"],
}
# Learning rate, weight decay, bags in a step.
OPTIMISERS = {
    "1e-3, 0, 8": (1e-3, 0.0, 8),
    "5e-4, 1e-3, 8": (5e-4, 1e-3, 8),
    "5e-4, 1e-3, 1": (5e-4, 1e-3, 1),
}


def make_cohort(seed: int) -> list[Bag]:
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
        x[inside, :4] += 1.0
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


def train(
    bags: Sequence[Bag], overrides: list[str], fold: int, seed: int, val: int, optimiser: str
) -> dict[str, list[list[float]]]:
    """Logits of validation and test after each epoch, and how well attention finds the region."""
    lr, decay, size = OPTIMISERS[optimiser]
    train_part, val_part, test_part = parts_of(seed, fold, val)
    table = torch.cat([bags[i].x for i in train_part])
    mean, std = table.mean(0), table.std(0)
    scaled = [replace(bag, x=(bag.x - mean) / std) for bag in bags]
    validation, test = (collate_bags([scaled[i] for i in part]) for part in (val_part, test_part))
    torch.manual_seed(seed)
    config = milforge.compose("train", [*overrides, "graph=radius"])
    network = build_network(config, (WIDTH,), 1, 0)
    adam = torch.optim.Adam(network.parameters(), lr=lr, weight_decay=decay)
    found: dict[str, list[list[float]]] = {"val": [], "test": [], "inst": []}
    for _ in range(EPOCHS):
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
            found["inst"].append([localisation(output.scores, test)])
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
    "last": lambda logits, y: EPOCHS - 1,
}


def run(folder: Path, settings: Sequence[tuple[str, str, int]], cohorts: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(cohorts):
        bags = make_cohort(seed)
        for model, optimiser, val in settings:
            path = folder / f"{model}_{optimiser}_{val}_{seed}.json".replace(" ", "")
            if path.exists():
                continue
            folds = [
                train(bags, MODELS[model], fold, seed, val, optimiser) for fold in range(FOLDS)
            ]
            path.write_text(json.dumps(folds))
            print(path.name, flush=True)


def report(folder: Path, settings: Sequence[tuple[str, str, int]], cohorts: int) -> None:
    print("| model | lr, decay, bags | validation bags | epoch by | AUROC | loss | localisation |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: |")
    for model, optimiser, val in settings:
        names = [
            f"{model}_{optimiser}_{val}_{seed}.json".replace(" ", "") for seed in range(cohorts)
        ]
        paths = [(seed, folder / name) for seed, name in enumerate(names)]
        runs = [(seed, json.loads(p.read_text())) for seed, p in paths if p.exists()]
        if not runs:
            continue
        for label, choose in CHOICES.items():
            rows = []
            for _, folds in runs:
                y_val, y_test = (np.arange(n) % 2 for n in (val, BAGS // FOLDS))
                logits, found = [], []
                for each in folds:
                    epoch = choose(np.array(each["val"]), y_val)
                    logits.append(each["test"][epoch])
                    found.append(each["inst"][epoch][0])
                pooled, y = np.concatenate(logits), np.tile(y_test, FOLDS)
                loss = loss_of(pooled[None], y)[0]
                rows.append((roc_auc_score(y, pooled), loss, np.mean(found)))
            cells = [f"{v:.3f}" for v in np.mean(rows, axis=0)]
            print(f"| {model} | {optimiser} | {val} | {label} | {' | '.join(cells)} |")


def main() -> None:
    """Trains what is left, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cohorts", type=int, default=2)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS)[:3])
    parser.add_argument("--optimisers", nargs="*", choices=OPTIMISERS, default=list(OPTIMISERS))
    parser.add_argument("--val", nargs="*", type=int, default=[10, 20])
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    settings = [(m, o, v) for m in options.models for o in options.optimisers for v in options.val]
    if not options.report_only:
        run(options.folder, settings, options.cohorts)
    report(options.folder, settings, options.cohorts)


if __name__ == "__main__":
    main()
