"""The best epoch so far, for dashboards: W&B and TensorBoard tell what `summary.json` tells."""

from collections.abc import Mapping, Sequence
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

History = Mapping[str, Sequence[tuple[float, float]]]


class BestEpoch(Callback):
    """Logs `best/<metric>` and `best_epoch` while a run trains; at its end the run itself does.

    A tracker's summary holds the last value of each metric, which is that of the last epoch; the
    best epoch is the one that is tested. A sweep on a server goes by `best/val/loss`.
    `metrics.csv` has the metrics of every epoch, and is left as it is.
    """

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs what the epoch before this one has changed; its checkpoint is saved by now."""
        history = cast(History, pl_module.history)
        epoch = best_epoch(trainer, history)
        if epoch is not None:
            log_best(trainer, epoch, metrics_of(history, epoch))


def log_best(trainer: L.Trainer, epoch: int | None, metrics: Mapping[str, float]) -> None:
    """Logs the metrics of the best epoch, but for `metrics.csv`.

    Args:
        trainer: its loggers are used.
        epoch: the best epoch; None where no checkpoint is kept, and the last one counts.
        metrics: name to value, such as `val/loss`.
    """
    values = {f"best/{name}": value for name, value in metrics.items()}
    if epoch is not None:
        values["best_epoch"] = epoch
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=trainer.global_step)


def best_epoch(trainer: L.Trainer, history: History) -> int | None:
    """The epoch whose checkpoint is the best; None where none is kept."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint) or callback.best_model_score is None:
        return None
    # Not the best of the history: a run that goes on keeps only checkpoints of its own.
    best = float(callback.best_model_score)
    epochs = [epoch for epoch, value in history.get(callback.monitor or "", []) if value == best]
    return int(epochs[0]) if epochs else None


def metrics_of(history: History, epoch: int | None) -> dict[str, float]:
    """The metrics of an epoch, or of the last one.

    Example:
        >>> metrics_of({"val/loss": [(0, 0.7), (1, 0.4)], "train/loss": [(0, 0.9)]}, 0)
        {'train/loss': 0.9, 'val/loss': 0.7}
    """
    chosen: dict[str, float] = {}
    for name, points in sorted(history.items()):
        values = {int(at): value for at, value in points}
        if epoch is None or epoch in values:
            chosen[name] = values[max(values) if epoch is None else epoch]
    return chosen
