"""Figures of a run: in its folder, and in its log."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from math import isnan
from pathlib import Path
from typing import cast

import lightning as L
import torch
from matplotlib.figure import Figure

from milforge.callbacks.best_epoch import best_epoch
from milforge.callbacks.mapping.bag_place import Scene, scene_of
from milforge.callbacks.mapping.bags_in_words import judged
from milforge.callbacks.records import BagRecord, RecordCollector, stacked
from milforge.callbacks.write_figure import write_figure
from milforge.maps.slide.slides import find_slides
from milforge.plots import (
    BagStrip,
    plot_attention_bars,
    plot_attention_maps,
    plot_bag_strips,
    plot_learning_curves,
    plot_stream_weights,
)
from milforge.plots.stream_weights import stage_and_stream
from milforge.tasks import Task


class FigureWriter(RecordCollector):
    """Draws learning curves, the figures of the task, and bags.

    Files are `learning_curves.png` after training, `stream_weights.png` where streams were
    weighed; after a test with labelled bags those of the task (`roc_pr.png`, `confusion.png` where
    there are classes), and `bags_<kind>.png` for each kind of bag that the task tells apart, such
    as its classes: bags with coords as maps of their attention beside the truth, bags of images as
    strips, others as bars of their attention weights. Maps have a scale bar where the unit of the
    coords is known. W&B and TensorBoard receive the same figures.

    Args:
        folder: where to write.
        bags: how many test bags of each kind to draw, half of them the worst predicted and the
            others the best; 0 draws none.
        slides: the folder of the slides, each named as its bag: their tiles are drawn beside maps;
            None: they are not.
        mpp: micrometres of a pixel of level 0, for the scale bar; None: as the slide tells.

    Raises:
        ValueError: for an mpp that is not above 0.
        FileNotFoundError: where there is no such folder of slides.
    """

    def __init__(
        self,
        folder: str | Path,
        bags: int = 3,
        slides: str | Path | None = None,
        mpp: float | None = None,
    ) -> None:
        super().__init__()
        if mpp is not None and not 0 < mpp < float("inf"):
            raise ValueError(f"callbacks.figures.mpp: expected mpp above 0, got {mpp}")
        self.folder = Path(folder)
        self.bags = bags
        self.slides = None if slides is None else find_slides(slides)
        self.mpp = mpp
        self._errors: defaultdict[str, list[float]] = defaultdict(list)

    def keep_images(self, module: L.LightningModule, record: BagRecord) -> bool:
        """Those that may come to be drawn: among the worst or the best of a kind so far."""
        task = cast(Task, module.task)
        kinds = kinds_of(task, record)
        error = float(errors_of([record], task)[0])
        for kind in kinds:
            self._errors[kind].append(error)
        return any(
            len(self._errors[kind]) - 1 in worst_and_best(self._errors[kind], self.bags)
            for kind in kinds
        )

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
        self._errors.clear()
        labelled = [record for record in records if record.y is not None]
        if stage != "test" or not labelled:
            return
        task = cast(Task, module.task)
        y = torch.stack([record.y for record in labelled if record.y is not None])
        for name, plot in task.figures().items():
            write_figure(trainer, self.folder, name, partial(plot, stacked(labelled), y))
        numbers = {record: number for number, record in enumerate(records)}
        shown = [each for each in labelled if each.weights is not None and not each.sampled]
        kinds = [kinds_of(task, record) for record in shown]
        for kind, name in figure_names(kind for each in kinds for kind in each).items():
            of_kind = [r for r, each in zip(shown, kinds, strict=True) if kind in each]
            chosen = worst_and_best(errors_of(of_kind, task), self.bags)
            drawn = [of_kind[number] for number in chosen]

            def draw(drawn: Sequence[BagRecord] = drawn) -> Figure:
                scenes = [
                    scene_of(trainer, record, numbers[record], self.slides, self.mpp)
                    for record in drawn
                ]
                return plot_bags(drawn, task, scenes)

            if drawn:
                write_figure(trainer, self.folder, name, draw)


def errors_of(records: Sequence[BagRecord], task: Task) -> list[float]:
    """How far the predictions are from the labels; 0 where the task does not tell."""
    return [0.0 if isnan(each) else each for each in judged(records, task).error.tolist()]


def worst_and_best(errors: Sequence[float], count: int) -> list[int]:
    """The numbers of so many bags, half of them (rounded up) the worst, then the best ones.

    Example:
        >>> worst_and_best([0.1, 0.9, 0.3, 0.7, 0.2], 3)
        [1, 3, 0]
    """
    order = sorted(range(len(errors)), key=lambda number: -errors[number])
    best = min(count // 2, max(0, len(order) - (count - count // 2)))
    return order[: count - count // 2] + order[len(order) - best :]


def kinds_of(task: Task, record: BagRecord) -> list[str]:
    """The kinds of bags of which the record is one."""
    if record.y is None:
        return []
    return [name for name, here in task.kinds(record.y[None]).items() if bool(here)]


def figure_names(kinds: Iterable[str]) -> dict[str, str]:
    """The name of the figure of each kind of bags: no two are one file on any system.

    Example:
        >>> figure_names(["ER+", "stage 2", "Stage/2"])
        {'ER+': 'bags_ER+', 'stage 2': 'bags_stage_2', 'Stage/2': 'bags_Stage_2_'}
    """
    names: dict[str, str] = {}
    for kind in dict.fromkeys(kinds):
        name = f"bags_{slug(kind)}" if kind else "bags"
        while name.casefold() in map(str.casefold, names.values()):
            name += "_"
        names[kind] = name
    return names


def slug(name: str) -> str:
    """A name as part of that of a file.

    Example:
        >>> slug("no 9"), slug("T1/2 (>5 cm)"), slug("ER-")
        ('no_9', 'T1_2_5_cm', 'ER-')
    """
    return re.sub(r"[^\w+-]+", "_", name).strip("_") or "_"


def plot_bags(records: Sequence[BagRecord], task: Task, scenes: Sequence[Scene]) -> Figure:
    """Bags with coords as maps, of images as strips, others as bars of their attention weights."""
    bags = [bag_strip(*each, task) for each in zip(records, scenes, strict=True)]
    if all(bag.coords is not None for bag in bags):
        return plot_attention_maps(bags)
    images = all(bag.images is not None for bag in bags)
    return plot_bag_strips(bags) if images else plot_attention_bars(bags)


def bag_strip(record: BagRecord, scene: Scene, task: Task) -> BagStrip:
    """A record in the words of the figure."""
    assert record.y is not None
    assert record.weights is not None
    description = task.describe(record.columns, record.y)
    return BagStrip(
        bag_id=record.bag_id,
        images=record.images,
        weights=record.weights,
        y=description.truth,
        prediction=description.prediction,
        probability=description.probability,
        y_inst=record.y_inst,
        # Slides of a patient would lie upon each other on one map.
        coords=record.coords if record.slide is None or not record.slide.any() else None,
        unit=scene.unit,
        per_coord=scene.per_coord,
        slide=scene.slide,
    )
