"""Losses and weights that are not finite stop a run, on all its processes at once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import lightning as L
import torch
from torch import Tensor

from milforge.processes.collectives import gathered


def check_weights(weights: Iterable[Tensor], epoch: int) -> None:
    """Checks weights before they are saved.

    Raises:
        ValueError: where some are not finite, from which no run could go on.
    """
    if not all(bool(each.isfinite().all()) for each in weights):
        raise ValueError(
            f"the weights are not finite in epoch {epoch}; the checkpoints are of "
            "before: lower optimizer.lr, set trainer.gradient_clip_val or "
            "trainer.precision=32-true"
        )


def over_processes(losses: Tensor, trainer: L.Trainer) -> tuple[Tensor | int, bool]:
    """How many bags a process has in this step, on average, and whether any loss is not finite.

    The average, because gradients are averaged over the processes.

    Args:
        losses: `(B,)`, of the bags of this process.
        trainer: the trainer of the run.
    """
    unbounded = (~losses.isfinite()).sum()
    if trainer.world_size == 1:
        return len(losses), bool(unbounded)
    here = torch.stack([unbounded.new_tensor(len(losses)), unbounded]).float()
    means = trainer.strategy.reduce(here)
    assert isinstance(means, Tensor)
    return means[0], bool(means[1])


def not_finite(
    losses: Tensor, bag_id: Sequence[str], *, epoch: int, step: int, world_size: int
) -> ValueError:
    """The error of all processes, whichever of them has the bags.

    Args:
        losses: `(B,)`, of the bags of this process.
        bag_id: the names of these bags.
        epoch: the epoch.
        step: the number of the batch in it.
        world_size: the number of processes.
    """
    finite = losses.isfinite().tolist()
    bags = [name for name, good in zip(bag_id, finite, strict=True) if not good]
    bags = list(chain.from_iterable(gathered(bags, world_size)))
    return ValueError(
        f"the loss is not finite in epoch {epoch}, step {step}, of "
        f"{', '.join(map(repr, bags))}; the checkpoints are of before: look at these bags, or "
        "lower optimizer.lr, set trainer.gradient_clip_val or trainer.precision=32-true"
    )


def check_monitor(monitor: str, values: Mapping[str, Tensor], before: Iterable[float]) -> None:
    """Checks that the metric that chooses the epoch has a value.

    Lightning would stop the run at the first NaN and call that epoch the best. Once there was a
    value, that of a later epoch may be NaN: the best epoch is known then.

    Args:
        monitor: the metric, with its stage.
        values: what the stage gave.
        before: the values of earlier epochs.

    Raises:
        ValueError: where it never had one.
    """
    stage, _, name = monitor.partition("/")
    missing = monitor not in values and name.startswith("inst_")
    undefined = monitor in values and bool(values[monitor].isnan())
    if not (missing or undefined) or any(map(math.isfinite, before)):
        return
    why = (
        f"no positive {stage} bag has labels of both kinds of instances, or the model has no "
        "attention"
        if missing
        else "its value is NaN"
    )
    raise ValueError(
        f"monitor={monitor} is not defined ({why}), so it cannot choose an epoch: choose another, "
        "such as monitor=val/loss"
    )
