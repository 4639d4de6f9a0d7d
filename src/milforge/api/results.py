"""What a run ends with: its best epoch, its metrics, its task."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from milforge.callbacks.best_epoch import metrics_of
from milforge.config.checkpoints.checkpoint_config import load_checkpoint
from milforge.tasks import Task


def as_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain numbers, in the order of their names."""
    return {name: float(value) for name, value in sorted(metrics.items())}


def task_summary(task: Task) -> dict[str, Any]:
    """The task of a run, for its summary; the last of two classes is the positive one.

    `metric` is the task's first, that which a run is judged by.
    """
    return {
        "name": type(task).__name__,
        "class_names": list(task.class_names),
        "metric": next(iter(task.metric_types), None),
    }


def best_checkpoint(trainer: L.Trainer) -> str | None:
    """Path of the best checkpoint, or None where none was written."""
    kept = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    return kept[0].best_model_path or None if kept else None


def best_metrics(
    history: Mapping[str, Sequence[tuple[float, float]]], checkpoint: str | None
) -> tuple[int | None, dict[str, float]]:
    """The best epoch and its metrics; the last one's where no checkpoint is kept.

    An epoch may have several validations: it is that of the checkpoint which counts.
    """
    if checkpoint is None:
        return None, metrics_of(history, None)
    kept = load_checkpoint(checkpoint)
    epoch = int(kept["epoch"])
    return epoch, metrics_of(history, epoch) | metrics_of(kept["milforge"]["history"], epoch)
