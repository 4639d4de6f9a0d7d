"""Losses and weights that are not finite stop a run, on all its processes at once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor

from milforge.processes.collectives import gathered

_STEPS = 32  # after which losses on a device are looked at


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


def waits_for_values(device: torch.device) -> bool:
    """Whether the processor has to wait for a device to know a value on it."""
    return device.type != "cpu"


class LossCheck:
    """Stops a run on all its processes where the loss of a bag is not finite, and names the bags.

    To know a value on a device, the processor has to wait until the device has done all that it was
    given before. So what was found stays on the device, and is looked at every 32 steps, and before
    anything is made of the weights. On a CPU, where nothing is waited for, it is looked at in each
    step, before any weight is changed by it.
    """

    def __init__(self) -> None:
        self._taken: list[_Step] = []

    def take(
        self, losses: Tensor, bag_id: Sequence[str], *, epoch: int, step: int, trainer: L.Trainer
    ) -> Tensor | int:
        """Takes the losses of a step.

        Args:
            losses: `(B,)`, of the bags of this process.
            bag_id: the names of these bags.
            epoch: the epoch.
            step: the number of the batch in it.
            trainer: the trainer of the run.

        Returns:
            How many bags a process has in this step, on average: gradients are averaged over the
            processes.

        Raises:
            ValueError: where a loss was not finite, now or since the last look.
        """
        finite = losses.detach().isfinite()
        unbounded = (~finite).sum()
        mean_bags: Tensor | int = len(losses)
        if trainer.world_size > 1:
            # Filled on the device: a value copied to it would be waited for.
            count = torch.full_like(unbounded, len(losses))
            means = trainer.strategy.reduce(torch.stack([count, unbounded]).float())
            assert isinstance(means, Tensor)
            mean_bags, unbounded = means[0], means[1]
        self._taken.append(_Step(unbounded, finite, tuple(bag_id), epoch, step))
        if len(self._taken) >= _STEPS or not waits_for_values(losses.device):
            self.look(trainer.world_size)
        return mean_bags

    def look(self, world_size: int) -> None:
        """Looks at what was taken; all processes have to call it after the same step.

        Raises:
            ValueError: for the first step with a loss that is not finite.
        """
        taken, self._taken = self._taken, []
        if not taken:
            return
        unbounded = torch.stack([each.unbounded for each in taken]).tolist()
        for each, count in zip(taken, unbounded, strict=True):
            if count:
                raise _not_finite(each, world_size)


class _Step(NamedTuple):
    """What is kept of a step: on the device how many losses are not finite, and which are."""

    unbounded: Tensor
    finite: Tensor
    bag_id: tuple[str, ...]
    epoch: int
    step: int


def _not_finite(step: _Step, world_size: int) -> ValueError:
    """The error of all processes, whichever of them has the bags."""
    bags = [name for name, good in zip(step.bag_id, step.finite.tolist(), strict=True) if not good]
    bags = list(chain.from_iterable(gathered(bags, world_size)))
    return ValueError(
        f"the loss is not finite in epoch {step.epoch}, step {step.step}, of "
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
