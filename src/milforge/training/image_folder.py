"""Large images on disk for training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from milforge.data import ImageFolder, ImageSplits, Splitting
from milforge.data.faults import BagError, list_faults
from milforge.data.image_folder import find_images, open_images, unmatched
from milforge.data.label_table import LabelTable, read_labels
from milforge.data.sources.tolerant import unreadable
from milforge.training.datamodule import task_of
from milforge.training.image_datamodule import ImageDataModule


class ImageFolderDataModule(ImageDataModule):
    """A folder of large images and a table of labels; only views and sampled patches are read.

    All images are opened, by their headers, before training begins, and all faults told at once.

    Args:
        root: the folder; images may lie in folders of it.
        labels: table with a row an image: CSV, TSV or Parquet. None where the images are only to
            be predicted.
        id_column: see `milforge.data.read_labels`.
        label_column: likewise.
        group_column: likewise.
        classes: likewise.
        splits: see `milforge.data.Splitting`; likewise the next six.
        fold: number of the split.
        folds: number of folds.
        repeats: of the folds.
        random_splits: number of random splits, instead of folds.
        test_share: share of the test part of a random split.
        val_share: share of the validation part.
        split_seed: of the splits that are drawn.
        low_size: height and width of the low-resolution views; None: by `low_scale`.
        low_scale: what the sides are multiplied by where there is no `low_size`; images of
            different sizes then need batches of one.
        level: level of the pyramid that patches are cut from.
        axes: of `.npy` and `.zarr` arrays: HW, HWC or CHW; None finds out.
        on_error: `raise`, or `skip`: go on without images that cannot be opened, with windows that
            cannot be read as black ones; the summary of the run counts both.
        batch_size: see `ClassificationDataModule`.
        eval_batch_size: see `ClassificationDataModule`.
        num_workers: see `ClassificationDataModule`.
        seed: of the order of the images.
    """

    def __init__(
        self,
        root: str,
        labels: str | None = None,
        *,
        id_column: str | None = None,
        label_column: str | Sequence[str] | None = None,
        group_column: str | None = None,
        classes: Sequence[str] | None = None,
        splits: str | None = None,
        fold: int | None = 0,
        folds: int = 5,
        repeats: int = 1,
        random_splits: int | None = None,
        test_share: float = 0.2,
        val_share: float = 0.1,
        split_seed: int = 0,
        low_size: Sequence[int] | None = None,
        low_scale: float = 1 / 32,
        level: int = 0,
        axes: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        if on_error not in ("raise", "skip"):
            raise ValueError(f"expected data.on_error to be raise or skip, got {on_error!r}")
        self.root = Path(root).expanduser()
        self.labels = labels
        self.splitting = Splitting(
            splits, fold, folds, repeats, random_splits, test_share, val_share, split_seed
        )
        self.columns: dict[str, Any] = {
            "id_column": id_column,
            "label_column": label_column,
            "group_column": group_column,
            "classes": classes,
        }
        self.view: dict[str, Any] = {"low_size": low_size, "low_scale": low_scale}
        self.level = level
        self.axes = axes
        self.on_error = on_error

    def make_splits(self) -> ImageSplits:
        """Opens the images and splits them."""
        unreadable.clear()  # of a job before this one, in the same process
        skip = self.on_error == "skip"
        paths, faults = find_images(self.root)
        named = [*paths, *(fault.bag_id for fault in faults)]
        images, broken = open_images(
            paths, level=self.level, axes=self.axes, tolerant=skip, **self.view
        )
        faults += broken
        table = None
        if self.labels is not None:
            table = read_labels(self.labels, **self.columns, strict=False)
            faults += [*table.faults, *unmatched(named, table.ids, table.source)]
        if faults and not skip:
            raise BagError(list_faults(str(self.root), faults), faults)
        self.skip(faults)
        if table is None:
            everything = ImageFolder(images, **self.view)
            return ImageSplits(everything, everything, everything)
        return self._labelled(images, table)

    def _labelled(self, images: dict[str, Any], table: LabelTable) -> ImageSplits:
        rows = {name: row for row, name in enumerate(table.ids) if name in images}
        numbers = list(rows.values())
        groups = None if table.groups is None else [table.groups[row] for row in numbers]
        labels = table.labels[numbers]
        self.split = self.splitting.choose(list(rows), labels, groups)

        def part(ids: Sequence[str]) -> ImageFolder:
            of_part = torch.from_numpy(table.labels[[rows[name] for name in ids]])
            return ImageFolder({name: images[name] for name in ids}, of_part, **self.view)

        parts = (part(self.split.train), part(self.split.val), part(self.split.test))
        return ImageSplits(*parts, task=task_of(table), class_names=table.classes)
