"""Losses and weights that are not finite stop a run, on all its processes at once."""

from collections.abc import Iterable, Sequence
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
