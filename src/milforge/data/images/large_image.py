"""One image that is too large to be looked at whole, and batches of such."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from milforge.data.batch import share
from milforge.sampling import ImageSource


@dataclass(frozen=True, eq=False)
class LargeImage:
    """An image as a bag: its instances are the patches that attention sampling draws of it.

    Args:
        low: `(C, h, w)` the low-resolution view, float or uint8.
        high: the image itself, read window by window.
        y: bag label: an integer (binary or class number), a number, or a `(C,)` tensor. None
            when the image is only to be predicted.
        bag_id: name of the image.
        unreadable: windows of it that a worker process could not read and that count as black; see
            `milforge.data.images.sources.TolerantSource`.

    Raises:
        ValueError: where the view is no `(C, h, w)`, or has other channels than the image.
    """

    low: Tensor
    high: ImageSource
    y: float | Tensor | None = None
    bag_id: str = ""
    unreadable: int = 0

    def __post_init__(self) -> None:
        if self.low.ndim != 3:
            raise ValueError(
                f"image {self.bag_id!r}: expected a low-resolution view of shape (C, h, w), got "
                f"{tuple(self.low.shape)}"
            )
        if self.low.shape[0] != self.high.shape[0]:
            raise ValueError(
                f"image {self.bag_id!r}: expected a view of {self.high.shape[0]} channels, as the "
                f"image has, got {self.low.shape[0]}"
            )

    @property
    def instance_shape(self) -> tuple[int, ...]:
        """`(C,)`, the number of channels: an instance is a patch, whose size the model chooses."""
        return tuple(self.high.shape[:1])

    def content(self) -> Iterator[Tensor]:
        """What distinguishes the image from another: its low-resolution view, and its size."""
        yield self.low
        yield torch.tensor(self.high.shape)


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """`B` large images.

    Args:
        x_low: `(B, C, h, w)` the low-resolution views.
        x_high: the images themselves, `B` of them.
        y: `(B,)` or `(B, C)` bag labels, or None.
        bag_id: the names of the images.
        seeds: `(B,)` int64 in host memory, of the random numbers that the patches of each image
            are drawn with, or None.
        unreadable: windows that a worker process could not read, by the name of the source.
    """

    x_low: Tensor
    x_high: Sequence[ImageSource]
    y: Tensor | None
    bag_id: list[str]
    seeds: Tensor | None = None
    unreadable: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.bag_id)

    def to(self, device: torch.device | str) -> "ImageBatch":
        """The batch with views and labels on another device; the images stay where they are."""
        non_blocking = torch.device(device).type == "cuda"
        y = None if self.y is None else self.y.to(device, non_blocking=non_blocking)
        return replace(self, x_low=self.x_low.to(device, non_blocking=non_blocking), y=y)

    def pin_memory(self) -> "ImageBatch":
        """The batch with views and labels in page-locked memory."""
        y = None if self.y is None else self.y.pin_memory()
        return replace(self, x_low=self.x_low.pin_memory(), y=y)

    def share_memory(self) -> "ImageBatch":
        """The batch with views in memory that other processes see.

        Raises:
            RuntimeError: where there is no room for them (torch's).
        """
        return replace(self, x_low=share(self.x_low))


def collate_images(images: Sequence[LargeImage]) -> ImageBatch:
    """Stacks images into a batch: for `DataLoader(..., collate_fn=collate_images)`.

    Args:
        images: at least one, with finite views of one shape and dtype, all labelled or none.

    Raises:
        ValueError: where an image does not fit the others; the message names it.

    Example:
        >>> from milforge.data import TensorSource
        >>> image = LargeImage(torch.zeros(1, 4, 4), TensorSource(torch.zeros(1, 40, 40)), y=1)
        >>> batch = collate_images([image, image])
        >>> batch.x_low.shape, batch.y
        (torch.Size([2, 1, 4, 4]), tensor([1, 1]))
    """
    if not images:
        raise ValueError("expected at least one image, got an empty list")
    first = images[0]
    for image in images:
        if image.low.shape != first.low.shape or image.low.dtype != first.low.dtype:
            raise ValueError(
                f"image {image.bag_id!r}: expected a low-resolution view of shape "
                f"{tuple(first.low.shape)} and {first.low.dtype}, as that of {first.bag_id!r}, got "
                f"{tuple(image.low.shape)} and {image.low.dtype}; give data.low_size"
            )
        if image.low.is_floating_point() and not image.low.isfinite().all():
            raise ValueError(
                f"image {image.bag_id!r}: expected finite pixels, got a low-resolution view with "
                f"NaN or infinite ones: mend {image.high.name}, or leave it out"
            )
        if (image.y is None) != (first.y is None):
            raise ValueError(
                f"expected labels for all images of a batch or for none: {first.bag_id!r} and "
                f"{image.bag_id!r} differ"
            )
    labels = [torch.as_tensor(image.y) for image in images if image.y is not None]
    for image, label in zip(images, labels, strict=False):  # all are labelled, or none
        if label.shape != labels[0].shape or label.dtype != labels[0].dtype:
            raise ValueError(
                f"image {image.bag_id!r}: expected a label of shape {tuple(labels[0].shape)} and "
                f"{labels[0].dtype}, as that of {first.bag_id!r}, got {tuple(label.shape)} and "
                f"{label.dtype}"
            )
    return ImageBatch(
        x_low=torch.stack([image.low for image in images]),
        x_high=[image.high for image in images],
        y=torch.stack(labels) if labels else None,
        bag_id=[image.bag_id for image in images],
        unreadable={image.high.name: image.unreadable for image in images if image.unreadable},
    )
