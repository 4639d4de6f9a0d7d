"""From a cell of the attention map to a place in the high-resolution image."""

from collections.abc import Sequence

import torch
from torch import Tensor


def patch_offsets(
    indices: Tensor,
    map_size: tuple[int, int],
    low_size: tuple[int, int],
    high_size: tuple[int, int],
    patch_size: tuple[int, int],
    receptive_field: int = 0,
    *,
    inside: bool = False,
) -> Tensor:
    """Upper left corners of the patches of these cells in the high-resolution image.

    Along each axis, with `scale = high / low` and `step = (low - rf) * scale / map`,
    `offset = rf / 2 * scale + index * step + step / 2 - patch / 2`, rounded half to even: the
    patch lies centred where the cell does. At the edge of the image it may reach beyond it, by less
    than half its size; unless it is moved, with `inside`, by as little as puts it into the image. A
    patch that is larger than the image then covers all of it.

    Args:
        indices: `(B, n, 2)` integer, row and column of each cell.
        map_size: height and width of the attention map.
        low_size: height and width of the low-resolution image that the map was computed from.
        high_size: height and width of the high-resolution image.
        patch_size: height and width of a patch.
        receptive_field: pixels of the low-resolution image that the map has lost on both sides
            together: 0 for padded convolutions; for valid ones their receptive field minus 1.
        inside: whether patches at the edge are moved into the image.

    Returns:
        `(B, n, 2)` int64, the row and the column; below 0 where a patch begins before the image.

    Raises:
        ValueError: for indices of another shape or dtype, a size below 1, and a receptive field
            below 0 or not below the low-resolution size.

    Example:
        >>> indices = torch.tensor([[[0, 0], [9, 4]]])
        >>> patch_offsets(indices, (10, 10), (20, 20), (200, 200), (50, 50))
        tensor([[[-15, -15],
                 [165,  65]]])
        >>> patch_offsets(indices, (10, 10), (20, 20), (200, 200), (50, 50), inside=True)
        tensor([[[  0,   0],
                 [150,  65]]])
    """
    if (
        indices.ndim != 3
        or indices.shape[2] != 2
        or indices.dtype not in (torch.int64, torch.int32)
    ):
        raise ValueError(
            f"expected integer indices of shape (B, n, 2), got {indices.dtype} of shape "
            f"{tuple(indices.shape)}"
        )
    for name, size in (
        ("map_size", map_size),
        ("low_size", low_size),
        ("high_size", high_size),
        ("patch_size", patch_size),
    ):
        check_size(name, size)
    if not 0 <= receptive_field < min(low_size):
        raise ValueError(
            f"expected a receptive field of at least 0 and below the low-resolution size "
            f"{tuple(low_size)}, got {receptive_field}: for valid convolutions it is what the map "
            "is smaller than the image, in pixels of the image"
        )
    axes = []
    for axis, (cells, low, high, patch) in enumerate(
        zip(map_size, low_size, high_size, patch_size, strict=True)
    ):
        # Over the common denominator all terms are integers, exact in float64 below 2^53: one
        # division is the only rounding, so a half is a half and ties do go to even.
        index = indices[..., axis].double()
        numerator = (2 * index + 1) * float((low - receptive_field) * high)
        numerator += receptive_field * high * cells - patch * low * cells
        offsets = (numerator / (2 * low * cells)).round().long()
        if inside:
            offsets = offsets.clamp(min(0, high - patch), max(0, high - patch))
        axes.append(offsets)
    return torch.stack(axes, dim=-1)


def check_size(name: str, size: Sequence[int]) -> None:
    """Checks that a size is a height and a width of at least 1.

    Raises:
        ValueError: where it is not.
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(
            f"expected {name} as a height and a width of at least 1, got {tuple(size)}"
        )
