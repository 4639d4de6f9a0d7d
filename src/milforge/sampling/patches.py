"""Patches cut from images in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milforge.sampling.offsets import check_size

# Integers of the same size, for NumPy knows no bfloat16; a copy does not ask what bits mean.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def extract_patches(image: Tensor, offsets: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Cuts patches out of images; outside of an image there are zeros.

    Neither the images nor a padded copy of them is copied. Gradients flow to images that require
    them.

    Args:
        image: `(B, C, H, W)`, of any dtype up to 64 bits.
        offsets: `(B, n, 2)` integer, row and column of the upper left corner of each patch; it
            may lie anywhere, outside of the image too. May be on another device.
        patch_size: height and width of a patch, which may exceed the image.

    Returns:
        `(B, n, C, ph, pw)`, of the dtype and on the device of the images.

    Raises:
        ValueError: where the shapes or dtypes are others.

    Example:
        >>> image = torch.arange(1, 10).reshape(1, 1, 3, 3)
        >>> extract_patches(image, torch.tensor([[[0, 1], [2, -1]]]), (2, 2))[0, :, 0]
        tensor([[[2, 3],
                 [5, 6]],
        <BLANKLINE>
                [[0, 7],
                 [0, 0]]])
    """
    if image.ndim != 4:
        raise ValueError(f"expected images of shape (B, C, H, W), got {tuple(image.shape)}")
    fits = offsets.ndim == 3 and offsets.shape[0] == len(image) and offsets.shape[2] == 2
    if not fits or offsets.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"expected integer offsets of shape ({len(image)}, n, 2) to go with images of shape "
            f"{tuple(image.shape)}, got {offsets.dtype} of shape {tuple(offsets.shape)}"
        )
    check_size("patch_size", patch_size)
    if image.device.type == "cpu":
        out: Tensor = _Cut.apply(image, offsets.tolist(), tuple(patch_size))  # type: ignore[no-untyped-call]
        return out
    return gather_patches(image, offsets.to(image.device), patch_size)


def as_float(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Float images as they are; uint8 as this dtype in [0, 1].

    Raises:
        ValueError: for any other dtype.
    """
    if image.is_floating_point():
        return image
    if image.dtype != torch.uint8:
        raise ValueError(
            f"expected images of uint8 or float, got {image.dtype}: convert them to float"
        )
    return image.to(dtype).div_(255)


def gather_patches(image: Tensor, offsets: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """`extract_patches` by one indexing operation: for a GPU, which it does not synchronise."""
    _, channels, height, width = image.shape
    device = image.device
    rows = offsets[:, :, 0, None] + torch.arange(patch_size[0], device=device)
    columns = offsets[:, :, 1, None] + torch.arange(patch_size[1], device=device)
    rows, columns = rows[:, :, None, :, None], columns[:, :, None, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    patches = image[
        torch.arange(len(image), device=device)[:, None, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        rows.clamp(0, height - 1),
        columns.clamp(0, width - 1),
    ]  # (B, n, C, ph, pw)
    return patches.masked_fill(~inside, 0)


class _Cut(torch.autograd.Function):
    """Copies windows, for images in host memory; the adjoint adds them where they were cut."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, offsets: list[list[list[int]]], patch_size: tuple[int, int]
    ) -> Tensor:
        ctx.shape, ctx.offsets, ctx.patch_size = image.shape, offsets, patch_size
        height, width = patch_size
        last_row, last_column = image.shape[2] - height, image.shape[3] - width
        source = image.detach().view(_BITS[image.element_size()]).numpy()
        count = len(offsets[0]) if offsets else 0
        # A small NumPy copy costs a third of a torch one, and NumPy asks for huge pages, which
        # saves a large table most of its page faults.
        patches = np.empty((len(image), count, image.shape[1], height, width), source.dtype)
        for whole, cut, places in zip(source, patches, offsets, strict=True):
            for patch, (row, column) in zip(cut, places, strict=True):
                if 0 <= row <= last_row and 0 <= column <= last_column:
                    patch[:] = whole[:, row : row + height, column : column + width]
                else:
                    inner, outer = _overlap((row, column), patch_size, image.shape[2:])
                    patch.fill(0)
                    patch[inner] = whole[outer]
        return torch.from_numpy(patches).view(image.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        image = grad.new_zeros(ctx.shape)
        for whole, cut, places in zip(image, grad, ctx.offsets, strict=True):
            for patch, place in zip(cut, places, strict=True):
                inner, outer = _overlap(place, ctx.patch_size, ctx.shape[2:])
                whole[outer] += patch[inner]
        return image, None, None


def _overlap(
    place: Sequence[int], patch_size: Sequence[int], image_size: Sequence[int]
) -> tuple[Any, Any]:
    """Where a patch and its image lie on each other: the window in each, possibly empty."""
    inner: list[Any] = [slice(None)]
    outer: list[Any] = [slice(None)]
    for start, patch, image in zip(place, patch_size, image_size, strict=True):
        first = min(max(start, 0), image)
        last = min(max(start + patch, first), image)
        inner.append(slice(first - start, last - start))
        outer.append(slice(first, last))
    return tuple(inner), tuple(outer)
