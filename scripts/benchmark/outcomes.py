"""What is learnt of outcomes that are no classes, on bags of digits whose law is known.

    python scripts/benchmark/outcomes.py losses      # C of each loss, beside the best possible
    python scripts/benchmark/outcomes.py accumulate  # Cox of packed bags against single forwards
    python scripts/benchmark/outcomes.py multi       # several targets, half of the labels missing
    python scripts/benchmark/outcomes.py covariates  # an age beside the images, and without it

`losses`, `multi` and `covariates` train in this process, one run per seed and variant under
logs/outcomes; runs that are finished are read. The tables give the mean over the seeds and its 95%
interval (Student's t).
"""

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _common import least_times
from scipy.stats import t

import milforge
from milforge.data import Bag, collate_bags, digits_survival
from milforge.functional import concordance_index, cox_nll
from milforge.models import BagNetwork
from milforge.nn import AttentionPool, MLPEncoder

EPOCHS = 15
COMMON = [
    "model=abmil",
    "optimizer.lr=1e-3",
    "callbacks.early_stopping=null",
    "callbacks.figures=null",
    "logger=none",
]
# At batch 1 the command refuses Cox: there the loss is that of one bag, whose gradient is 0.
LOSSES = {
    **{f"Cox, batch {size}": ["task=cox", f"loader.batch_size={size}"] for size in (8, 32, 128)},
    **{
        f"discrete, {bins} bins": ["task=survival_discrete", f"task.bins={bins}"]
        for bins in (4, 8, 20)
    },
    "Weibull": ["task=weibull"],
}
_TASKS = {
    "survival": ("{columns:[time,event],task:{_target_:milforge.tasks.Cox}}", "c_index"),
    "value": ("{task:{_target_:milforge.tasks.Regression}}", "r2"),
    "grade": ("{task:{_target_:milforge.tasks.Ordinal}}", "kappa"),
    "high": ("{task:{_target_:milforge.tasks.Binary}}", "auroc"),
}


def trained(name: str, seed: int, overrides: list[str], epochs: int) -> dict[str, float]:
    """The metrics of a run, which is trained where it is not finished."""
    plain = name.replace(", ", "_").replace(" ", "_")
    config = milforge.compose(
        "train",
        [
            *("data=digits_survival", *COMMON, *overrides),
            *(f"seed={seed}", f"trainer.max_epochs={epochs}"),
            *("paths.log_dir=logs/outcomes", f"run={plain}_{seed}"),
        ],
    )
    return dict(milforge.fit(config).metrics)


def table(rows: dict[str, list[float]]) -> None:
    """Name, mean and half width of the 95% interval."""
    for name, values in rows.items():
        n = len(values)
        half = t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
        print(f"| {name} | {np.mean(values):.3f} ± {half:.3f} |", flush=True)


def losses(seeds: int, epochs: int) -> None:
    """C on the test part."""
    best = []
    for seed in range(seeds):
        test = digits_survival(seed=seed).test
        share = torch.stack([test[i].y_inst.float().mean() for i in range(len(test))])
        time, event = test.labels.unbind(1)
        best.append(float(concordance_index(share, time, event)))
    rows = {"best possible": best, "Cox, batch 1": [single_bags(seed) for seed in range(seeds)]}
    for name, overrides in LOSSES.items():
        batch = [] if "loader" in " ".join(overrides) else ["loader.batch_size=32"]
        rows[name] = [
            trained(name, seed, [*overrides, *batch], epochs)["test/c_index"]
            for seed in range(seeds)
        ]
    table(rows)
    # The parts of a seed are the same for all, so differences vary less than values.
    table(
        {
            f"{name}, less the best possible": list(np.subtract(values, best))
            for name, values in rows.items()
            if name != "best possible"
        }
    )


def make_network(seed: int) -> BagNetwork:
    torch.manual_seed(seed)
    return BagNetwork(
        encoder=MLPEncoder, pool=AttentionPool, instance_shape=(1, 8, 8), num_outputs=1
    )


def single_bags(seed: int) -> float:
    """C after an epoch of steps of one bag, which the command refuses."""
    splits, network = digits_survival(seed=seed), make_network(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for i in range(len(splits.train)):
        batch = collate_bags([splits.train[i]])
        optimizer.zero_grad()
        cox_nll(network(batch).logits[:, 0], *batch.y.unbind(1)).sum().backward()
        optimizer.step()
    batch = collate_bags([splits.test[i] for i in range(len(splits.test))])
    with torch.no_grad():
        return float(concordance_index(network(batch).logits[:, 0], *batch.y.unbind(1)))


def accumulate(repeats: int) -> None:
    """Gradients and seconds of an epoch of 384 bags in steps of 32, packed and one by one."""
    bags = digits_survival(train=384).train
    batches = [[bags[i] for i in range(start, start + 32)] for start in range(0, len(bags), 32)]
    network = make_network(0)
    gradients: dict[str, list[torch.Tensor]] = {}

    def epoch(step: Callable[[list[Bag]], None]) -> None:
        gradients[step.__name__] = []
        for batch in batches:
            network.zero_grad()
            step(batch)
            found = torch.cat([each.grad.flatten() for each in network.parameters()])
            gradients[step.__name__].append(found)

    def packed(chosen: list[Bag]) -> None:
        batch = collate_bags(chosen)
        cox_nll(network(batch).logits[:, 0], *batch.y.unbind(1)).sum().backward()

    def one_by_one(chosen: list[Bag]) -> None:
        """All graphs are kept until the loss of the risk set: as memory, it is that of packing."""
        single = [collate_bags([bag]) for bag in chosen]
        risk = torch.cat([network(each).logits[:, 0] for each in single])
        cox_nll(risk, *torch.cat([each.y for each in single]).unbind(1)).sum().backward()

    def twice(chosen: list[Bag]) -> None:
        """With the memory of one bag: risks first, then each bag again with its gradient."""
        single = [collate_bags([bag]) for bag in chosen]
        with torch.no_grad():
            risk = torch.cat([network(each).logits[:, 0] for each in single])
        leaf = risk.requires_grad_()
        cox_nll(leaf, *torch.cat([each.y for each in single]).unbind(1)).sum().backward()
        for each, gradient in zip(single, leaf.grad, strict=True):
            network(each).logits[0, 0].backward(gradient)

    steps = {"packed": packed, "single forwards": one_by_one, "each bag twice": twice}
    contestants = {name: partial(epoch, step) for name, step in steps.items()}
    measured = least_times(contestants, repeats)
    expected = torch.stack(gradients["packed"])
    for name, times in measured.items():
        found = torch.stack(gradients[steps[name].__name__])
        error = (found - expected).abs().max() / expected.abs().max()
        print(f"| {name} | {times.processor / 1000:.3f} s an epoch | {error:.1e} |")


def multi(seeds: int, epochs: int) -> None:
    """Each target alone and with the others, half of the training labels of each missing."""
    label = "data.label_column=[time,event,value,grade,high]"
    common = [label, "data.missing=0.5", "loader.batch_size=32", "task=multi"]
    every = ",".join(f"{name}:{target}" for name, (target, _) in _TASKS.items())
    together = [
        trained("multi", seed, [*common, f"task.targets={{{every}}}"], epochs)
        for seed in range(seeds)
    ]
    rows = {}
    for name, (target, metric) in _TASKS.items():
        key = f"test/{name}_{metric}"
        only = [*common, f"task.targets={{{name}:{target}}}"]
        alone = [trained(f"only_{name}", seed, only, epochs)[key] for seed in range(seeds)]
        rows[f"{name} {metric}, alone"] = alone
        rows[f"{name} {metric}, together"] = [each[key] for each in together]
        rows[f"{name} {metric}, difference"] = [
            each[key] - one for each, one in zip(together, alone, strict=True)
        ]
    table(rows)


def covariates(seeds: int, epochs: int) -> None:
    """C of images alone, and with the age of which the time depends as much."""
    rows: dict[str, list[float]] = {}
    for seed in range(seeds):
        splits = digits_survival(seed=seed, age_effect=1.0)
        test, ages = splits.test, splits.covariates["age"][-len(splits.test) :]
        older = (torch.tensor([float(age) for age in ages]) - 60) / 10
        share = torch.stack([test[i].y_inst.float().mean() for i in range(len(test))])
        best = {"images": 3 * share, "age": older, "both": 3 * share + older}
        for name, risk in best.items():
            c = float(concordance_index(risk, *test.labels.unbind(1)))
            rows.setdefault(f"best possible, {name}", []).append(c)
    common = ["task=cox", "loader.batch_size=32", "data.age_effect=1.0", "optimizer.lr=1e-2"]
    for name, given in (("images alone", "false"), ("images and age", "true")):
        options = [*common, f"model.covariates={given}"]
        rows[name] = [trained(name, seed, options, epochs)["test/c_index"] for seed in range(seeds)]
    gain = np.subtract(rows["images and age"], rows["images alone"])
    table({**rows, "difference": list(gain)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=["losses", "accumulate", "multi", "covariates"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    Path("logs").mkdir(exist_ok=True)
    if options.study == "accumulate":
        accumulate(10)
    elif options.study == "losses":
        losses(options.seeds, options.epochs)
    elif options.study == "multi":
        multi(options.seeds, options.epochs)
    else:
        covariates(options.seeds, options.epochs)


if __name__ == "__main__":
    main()
