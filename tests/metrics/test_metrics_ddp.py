"""Metrics of two processes with uneven shares against those of one.

The processes are forked: gloo is up in well under a second, where a spawn imports everything again.
"""

from contextlib import nullcontext
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes
from torchmetrics.classification import BinaryF1Score
from torchmetrics.utilities.prints import rank_zero_only

from milforge.metrics import (
    ConcordanceIndex,
    CumulativeDynamicAUC,
    IntegratedBrierScore,
    LocalisationAUROC,
    LocalisationAveragePrecision,
    OfTarget,
    UnoConcordanceIndex,
    build_metrics,
)
from milforge.tasks import Binary, Multiclass, Multilabel, Regression

pytestmark = [
    pytest.mark.ddp,
    # Python 3.12 on warns of any fork beside threads; the children below use one thread only.
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]

WORLD = 2
TASKS = {"binary": Binary, "multiclass": Multiclass, "multilabel": Multilabel}
NAMES = {"binary": ["a", "b"], "multiclass": ["a", "b", "c"], "multilabel": ["a", "b", "c"]}
# Numbers of the batches that each process is given.
SHARES = {
    "uneven": ([0, 1, 2], [3]),
    "last process has none": ([0, 1, 2, 3], []),
    "first process has none": ([], [0, 1, 2, 3]),
}


def make_bag_batches(task):
    generator = torch.Generator().manual_seed(0)
    batches = []
    for size in (7, 1, 12, 5):
        if task == "multiclass":
            preds = torch.randn(size, 3, generator=generator).softmax(1)
            target = torch.randint(3, (size,), generator=generator)
        else:
            shape = (size,) if task == "binary" else (size, 3)
            # Not the dtype in which torchmetrics stands in for a process without a bag.
            preds = torch.rand(shape, generator=generator).bfloat16()
            target = torch.randint(2, shape, generator=generator)
        batches.append((preds, target))
    return batches


def make_number_batches(outputs):
    generator = torch.Generator().manual_seed(2)
    shape = () if outputs == 1 else (outputs,)
    batches = []
    for size in (7, 1, 12, 5):
        target = torch.randint(6, (size, *shape), generator=generator).float()
        preds = target + torch.randint(3, target.shape, generator=generator)
        batches.append((preds.bfloat16(), target))
    return batches


def own_metrics(task, **state):
    own = task.from_state({"weights": None, **state}).metrics()
    return build_metrics(own, {}, ["preds", "target"])


def make_instance_batches():
    generator = torch.Generator().manual_seed(1)
    batches = []
    for sizes in ((5, 9, 1), (30,), (4, 0, 12, 6), (8,)):
        ptr = torch.tensor([0, *sizes]).cumsum(0)
        scores = torch.randint(0, 8, (sum(sizes),), generator=generator) / 8
        labels = torch.randint(-1, 2, (sum(sizes),), generator=generator)
        batches.append((scores, labels, ptr, torch.ones(len(sizes), dtype=torch.bool)))
    return batches


def make_time_batches():
    """Risks, times, events and the survival at two times, for metrics that are fed by keyword."""
    generator = torch.Generator().manual_seed(3)
    return [
        {
            "risk": torch.randint(5, (size,), generator=generator).bfloat16(),
            "time": torch.randint(1, 9, (size,), generator=generator).double(),
            "event": torch.randint(2, (size,), generator=generator),
            "survival": torch.rand(size, 2, generator=generator),
        }
        for size in (7, 1, 12, 5)
    ]


def make_target_batches():
    """Of one of several targets, of which the bags of the last batch have no label."""
    generator = torch.Generator().manual_seed(4)
    return [
        {
            "grade/preds": torch.rand(size, generator=generator),
            "grade/target": torch.randint(2, (size,), generator=generator),
            "grade/known": torch.rand(size, generator=generator) < share,
        }
        for size, share in ((7, 0.5), (1, 1), (12, 0.5), (5, 0))
    ]


def time_metrics():
    watched = [1.0, 4.0, 8.0], [0.9, 0.6, 0.3]
    own = {
        "c": ConcordanceIndex(),
        "uno": UnoConcordanceIndex(watched),
        "auc": CumulativeDynamicAUC([4.0, 6.0], watched, average=None),
        "ibs": IntegratedBrierScore([4.0, 6.0], watched),
    }
    return build_metrics(own, {}, make_time_batches()[0])


def make_metrics():
    """Name -> (metric, its batches)."""
    metrics = {}
    for kind, names in NAMES.items():
        own = own_metrics(TASKS[kind](), kind=kind, class_names=names, columns=names)
        metrics[kind] = own, make_bag_batches(kind)
    for outputs in (1, 2):
        own = own_metrics(Regression(), kind="regression", columns=["x", "y"][:outputs])
        metrics[f"regression {outputs}"] = own, make_number_batches(outputs)
    metrics["times"] = time_metrics(), make_time_batches()
    batches = make_target_batches()
    metrics["target"] = (
        build_metrics({"f1": OfTarget("grade", BinaryF1Score())}, {}, batches[0]),
        batches,
    )
    metrics["inst_auroc"] = (LocalisationAUROC(), make_instance_batches())
    metrics["inst_ap"] = (LocalisationAveragePrecision(), make_instance_batches())
    return metrics


def evaluate(numbers):
    results = {}
    for name, (metric, batches) in make_metrics().items():
        for number in numbers:
            batch = batches[number]
            metric.update(**batch) if isinstance(batch, dict) else metric.update(*batch)
        results[name] = metric.compute()
    return results


def run_process(rank, folder, shares):
    torch.set_num_threads(1)  # the parent's OpenMP threads do not survive a fork
    rank_zero_only.rank = rank  # as Lightning sets it
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=60),
    )
    # torchmetrics warns the first process, and only that one, that it has had no update.
    told = rank == 0 and not shares[rank]
    with pytest.warns(UserWarning, match="before the ``update``") if told else nullcontext():
        results = evaluate(shares[rank])
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES.keys())
def test_two_processes_agree_with_one(tmp_path, shares):
    start_processes(run_process, (tmp_path, shares), nprocs=WORLD, start_method="fork")
    expected = evaluate(range(4))
    for rank in range(WORLD):
        computed = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(computed, expected, rtol=1e-6, atol=1e-7)
