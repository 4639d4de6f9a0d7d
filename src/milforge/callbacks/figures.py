"""Figures of a run: in its folder, and in its log."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from matplotlib.figure import Figure
from torch import Tensor

from milforge.callbacks.records import BagRecord, RecordCollector
from milforge.callbacks.write_figure import write_figure
from milforge.data import Task
from milforge.plots import (
    BagStrip,
    plot_attention_bars,
    plot_attention_maps,
    plot_bag_strips,
    plot_confusion,
    plot_learning_curves,
    plot_roc_pr,
    plot_stream_weights,
)
from milforge.plots.stream_weights import stage_and_stream


class FigureWriter(RecordCollector):
    """Draws learning curves, ROC and precision-recall, the confusion matrix, and bags.

    Files are `learning_curves.png` after training, `stream_weights.png` where streams were weighed,
    and `roc_pr.png`, `confusion.png`,
    `bags_positive.png`, `bags_negative.png` after a test with labelled bags: bags with coords as
    maps of their attention beside the truth, bags of images as strips, others as bars of their
    attention weights. W&B and TensorBoard receive the same figures.

    Args:
        folder: where to write.
        bags: how many positive, and how many negative, test bags to draw; 0 draws none.
    """

    def __init__(self, folder: str | Path, bags: int = 3) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.bags = bags
        self._kept = {True: 0, False: 0}

    def keep_images(self, record: BagRecord) -> bool:
        """The first bags of each kind are drawn."""
        kind = is_positive(record)
        self._kept[kind] += 1
        return self._kept[kind] <= self.bags

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the learning curves, those of the weights of the streams apart."""
        history = cast(dict[str, list[tuple[float, float]]], pl_module.history)
        if not trainer.is_global_zero or not history:
            return
        best = best_epoch(trainer, history)
        weights = {name: points for name, points in history.items() if any(stage_and_stream(name))}
        others = {name: points for name, points in history.items() if name not in weights}
        draw = partial(plot_learning_curves, others, best_epoch=best)
        write_figure(trainer, self.folder, "learning_curves", draw)
        if weights:
            draw = partial(plot_stream_weights, weights, best_epoch=best)
            write_figure(trainer, self.folder, "stream_weights", draw)

    def finish(
        self, trainer: L.Trainer, module: L.LightningModule, records: list[BagRecord], stage: str
    ) -> None:
        """Draws what the records show."""
        self._kept = {True: 0, False: 0}
        labelled = [record for record in records if record.y is not None]
        if stage != "test" or not labelled:
            return
        names = cast(tuple[str, ...], module.class_names)
        probabilities = torch.stack([record.probabilities for record in labelled])
        y = torch.stack([record.y for record in labelled if record.y is not None])
        task = cast(Task, module.task)
        for name, plot in (("roc_pr", plot_roc_pr), ("confusion", plot_confusion)):
            write_figure(trainer, self.folder, name, partial(plot, probabilities, y, task, names))
        for kind, name in ((True, "bags_positive"), (False, "bags_negative")):
            drawn = [
                record
                for record in labelled
                if record.weights is not None and not record.sampled and is_positive(record) == kind
            ][: self.bags]
            if drawn:
                write_figure(trainer, self.folder, name, partial(plot_bags, drawn, names))


def best_epoch(trainer: L.Trainer, history: dict[str, list[tuple[float, float]]]) -> int | None:
    """The epoch whose checkpoint is the best; None where none is kept."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint) or callback.best_model_score is None:
        return None
    # Not the best of the history: a run that goes on keeps only checkpoints of its own.
    best = float(callback.best_model_score)
    epochs = [epoch for epoch, value in history.get(callback.monitor or "", []) if value == best]
    return int(epochs[0]) if epochs else None


def is_positive(record: BagRecord) -> bool:
    """Whether any class but the first of a binary or multiclass task, or any label, is there."""
    return record.y is not None and bool((record.y > 0).any())


def plot_bags(records: Sequence[BagRecord], class_names: tuple[str, ...]) -> Figure:
    """Bags with coords as maps, of images as strips, others as bars of their attention weights."""
    bags = [bag_strip(record, class_names) for record in records]
    if all(bag.coords is not None for bag in bags):
        return plot_attention_maps(bags)
    images = all(bag.images is not None for bag in bags)
    return plot_bag_strips(bags) if images else plot_attention_bars(bags)


def bag_strip(record: BagRecord, class_names: tuple[str, ...]) -> BagStrip:
    """A record in the words of the figure."""
    assert record.y is not None
    assert record.weights is not None
    y, prediction, probability = describe(record.y, record.probabilities, class_names)
    return BagStrip(
        bag_id=record.bag_id,
        images=record.images,
        weights=record.weights,
        y=y,
        prediction=prediction,
        probability=probability,
        y_inst=record.y_inst,
        coords=record.coords,
    )


def describe(
    y: Tensor, probabilities: Tensor, class_names: tuple[str, ...]
) -> tuple[str, str, float]:
    """The bag label, the prediction, and its probability, in words.

    Args:
        y: bag label, 0-dim or `(C,)`.
        probabilities: 0-dim (binary: of the positive class) or `(C,)`.
        class_names: one name a class.
    """
    if probabilities.ndim == 0:  # binary
        predicted = int(probabilities > 0.5)
        probability = float(probabilities if predicted else 1 - probabilities)
        return class_names[int(y)], class_names[predicted], probability
    if y.ndim == 0:  # multiclass
        predicted = int(probabilities.argmax())
        return class_names[int(y)], class_names[predicted], float(probabilities[predicted])
    present = probabilities > 0.5  # multilabel
    probability = float(torch.where(present, probabilities, 1 - probabilities).prod())
    return _joined(y == 1, class_names), _joined(present, class_names), probability


def _joined(present: Tensor, class_names: tuple[str, ...]) -> str:
    names = [name for name, here in zip(class_names, present.tolist(), strict=True) if here]
    return ", ".join(names) or "none"
