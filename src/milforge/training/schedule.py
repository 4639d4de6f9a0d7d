"""The optimiser, and the learning-rate scheduler, which is stepped once per epoch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    optimizer: Callable[[Iterator[nn.Parameter]], Optimizer] | None,
    scheduler: Callable[[Optimizer], Any] | None,
    monitor: str,
) -> OptimizerLRScheduler:
    """What Lightning expects of `configure_optimizers`.

    Args:
        parameters: of which those that are frozen are left out.
        optimizer: builds the optimiser.
        scheduler: builds its scheduler; None: there is none.
        monitor: the metric that a scheduler may look at.

    Raises:
        ValueError: where there is no optimiser.
    """
    if optimizer is None:
        raise ValueError("expected an optimizer to train with, got none")
    built = optimizer(each for each in parameters if each.requires_grad)
    if scheduler is None:
        return built
    # Not strict: there may be epochs without validation; see `step_schedulers`.
    schedule = {"scheduler": scheduler(built), "monitor": monitor, "strict": False}
    return {"optimizer": built, "lr_scheduler": schedule}  # type: ignore[return-value]


def step_schedulers(trainer: L.Trainer, monitored: Sequence[tuple[float, float]]) -> None:
    """Steps the schedulers at the end of an epoch.

    One that looks at a metric is not stepped in an epoch that gave the metric no value.

    Args:
        trainer: the trainer of the run.
        monitored: epoch and value of that metric, in the order of the epochs.
    """
    epoch, value = monitored[-1] if monitored else (-1, 0.0)
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        elif epoch == trainer.current_epoch:
            scheduler.step(value)
