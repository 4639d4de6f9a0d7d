"""Large images for training."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from milforge.data import (
    BagBatch,
    ImageBatch,
    ImageSplits,
    LargeImage,
    collate_images,
    megapixel,
)
from milforge.data.sources.tolerant import unreadable
from milforge.training.datamodule import ClassificationDataModule
from milforge.training.processes import gathered


class ImageDataModule(ClassificationDataModule[LargeImage]):
    """Batches of large images; a subclass says in `make_splits` which.

    An instance is a patch of the image; of its shape only the number of channels is the data's.

    Args:
        options: see `ClassificationDataModule`.

    Attributes:
        unreadable_windows: what no process could read in the stages that are over, by the image.
    """

    batch_type = ImageBatch

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unreadable_windows: Counter[str] = Counter()

    @property
    def instance_shape(self) -> tuple[int, ...]:
        """`(C,)`, the number of channels."""
        return self.splits.train[0].high.shape[:1]

    @property
    def collate_fn(self) -> Callable[[Sequence[LargeImage]], ImageBatch]:
        """Stacks the views of images."""
        return collate_images

    def transfer_batch_to_device(
        self, batch: BagBatch | ImageBatch, device: torch.device, dataloader_idx: int
    ) -> BagBatch | ImageBatch:
        """Moves the views, and counts what workers could not read of them."""
        if isinstance(batch, ImageBatch):
            unreadable.update(batch.unreadable)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def teardown(self, stage: str | None = None) -> None:
        """Adds up what the processes could not read in this stage."""
        lost = dict(unreadable)
        unreadable.clear()
        _, world_size = self._process()
        for each in gathered(lost, world_size):
            self.unreadable_windows.update(each)

    def description(self) -> dict[str, Any]:
        """The data set, and what of it the stages that are over could not read."""
        return super().description() | {"unreadable_windows": dict(self.unreadable_windows)}

    def tensors(self, item: LargeImage) -> Iterator[Tensor]:
        """The low-resolution view of an image, and its size."""
        yield item.low
        yield torch.tensor(item.high.shape)


class MegapixelDataModule(ImageDataModule):
    """Digits on large canvases, of which most agree: see `milforge.data.megapixel`.

    Args:
        source: `digits`, scikit-learn's 1,797 images, or `mnist`.
        root: folder of the four MNIST IDX files; None fetches them from OpenML.
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        size: pixels a side of the canvas.
        low_size: pixels a side of its low-resolution view.
        digit_size: pixels a side of a digit on the canvas.
        digits: number of digits on a canvas.
        agree: how many of them are of the class to be named.
        noise: number of strokes.
        batch_size: see `ClassificationDataModule`.
        eval_batch_size: see `ClassificationDataModule`.
        num_workers: see `ClassificationDataModule`.
        seed: of the canvases and their order.
    """

    def __init__(
        self,
        source: Literal["digits", "mnist"],
        *,
        root: str | None = None,
        train: int = 2000,
        val: int = 500,
        test: int = 1000,
        size: int = 1500,
        low_size: int = 180,
        digit_size: int = 28,
        digits: int = 5,
        agree: int = 3,
        noise: int = 50,
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
        self.options: dict[str, Any] = {
            "source": source,
            "root": root,
            "train": train,
            "val": val,
            "test": test,
            "size": size,
            "low_size": low_size,
            "digit_size": digit_size,
            "digits": digits,
            "agree": agree,
            "noise": noise,
            "seed": seed,
        }

    def make_splits(self) -> ImageSplits:
        """Makes the canvases, one when it is asked for."""
        return megapixel(**self.options)
