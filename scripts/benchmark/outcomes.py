"""What is learnt of outcomes that are no classes, on bags of digits whose law is known.

    python scripts/benchmark/outcomes.py losses      # C of each loss, beside the best possible
    python scripts/benchmark/outcomes.py accumulate  # Cox of packed bags against single forwards
    python scripts/benchmark/outcomes.py multi       # several targets, half of the labels missing

`losses` and `multi` train in this process, one run per seed and variant under logs/outcomes; runs
that are finished are read. The tables give the mean over the seeds and its 95% interval (Student's
t).
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from _common import least_times
from scipy.stats import t

import milforge
from milforge.data import collate_bags, digits_survival
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
    rows = {"best possible": best}
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


def accumulate(repeats: int) -> None:
    """Gradients and seconds of a step of 32 whole bags, packed and one after the other."""
    bags = [digits_survival(train=32).train[i] for i in range(32)]
    torch.manual_seed(0)
    network = BagNetwork(
        encoder=MLPEncoder, pool=AttentionPool, instance_shape=(1, 8, 8), num_outputs=1
    )
    batch, single = collate_bags(bags), [collate_bags([bag]) for bag in bags]
    time, event = batch.y.unbind(1)

    def packed() -> None:
        network.zero_grad()
        cox_nll(network(batch).logits[:, 0], time, event).sum().backward()

    def one_by_one() -> None:
        """All graphs are kept until the loss of the risk set: as memory, it is that of packing."""
        network.zero_grad()
        risk = torch.cat([network(each).logits[:, 0] for each in single])
        cox_nll(risk, time, event).sum().backward()

    def twice() -> None:
        """With the memory of one bag: risks first, then each bag again with its gradient."""
        network.zero_grad()
        with torch.no_grad():
            risk = torch.cat([network(each).logits[:, 0] for each in single])
        leaf = risk.requires_grad_()
        cox_nll(leaf, time, event).sum().backward()
        for each, gradient in zip(single, leaf.grad, strict=True):
            network(each).logits[0, 0].backward(gradient)

    found = {}
    contestants = {"packed": packed, "single forwards": one_by_one, "each bag twice": twice}
    for name, step in contestants.items():
        step()
        found[name] = torch.cat([each.grad.flatten() for each in network.parameters()])
    for name, times in least_times(contestants, repeats).items():
        error = (found[name] - found["packed"]).abs().max() / found["packed"].abs().max()
        print(f"| {name} | {times.processor:.2f} ms | {error:.1e} |")
    alone = cox_nll(network(single[0]).logits[:, 0], time[:1], event[:1]).sum()
    gradients = torch.autograd.grad(alone, list(network.parameters()))
    print("a batch of one bag: largest gradient", max(float(g.abs().max()) for g in gradients))


def multi(seeds: int, epochs: int) -> None:
    """Each target alone and with the others, half of the training labels of each missing."""
    label = "data.label_column=[time,event,value,grade]"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=["losses", "accumulate", "multi"])
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
    else:
        multi(options.seeds, options.epochs)


if __name__ == "__main__":
    main()
