"""The low-resolution view of an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from milforge.sampling import ImageSource
from milforge.sampling.offsets import check_size

# Height and width of what is read at once: whole tiles of the usual sizes.
_WINDOW = (1024, 2048)


def low_resolution(
    source: ImageSource, *, size: Sequence[int] | None = None, scale: float | None = None
) -> Tensor:
    """A small view of a whole image, in which each pixel is the mean of the area it stands for.

    Read from the smallest level that is at least as large, in windows of 1024 x 2048. Beside the
    view itself in float32 that takes about 20 bytes for each value of one window, 130 MB for RGB,
    however large the image is.

    Args:
        source: the image.
        size: height and width of the view; at most those of the image. The ratio of the sides may
            change.
        scale: instead of a size, what each side of the image is multiplied by, in (0, 1], and
            rounded down.

    Returns:
        `(C, h, w)`, uint8 (rounded) for an image of uint8, else of its float dtype.

    Raises:
        ValueError: for both or neither of size and scale, or a view larger than the image.
        OSError: where the image cannot be read; names file and window.

    Example:
        >>> from milforge.data import TensorSource
        >>> source = TensorSource(torch.arange(16.0).reshape(1, 4, 4))
        >>> low_resolution(source, size=(2, 2))
        tensor([[[ 2.5000,  4.5000],
                 [10.5000, 12.5000]]])
    """
    height, width = view_size(source, size, scale)
    level = max(
        i for i, (h, w) in enumerate(source.levels) if i == 0 or (h >= height and w >= width)
    )
    rows, columns = (
        _shares(n, to) for n, to in zip(source.levels[level], (height, width), strict=True)
    )
    total = np.zeros((height, source.shape[0], width), np.float32)
    dtype = torch.uint8
    for top in range(0, rows.shape[1], _WINDOW[0]):
        down = rows[:, top : top + _WINDOW[0]]
        for left in range(0, columns.shape[1], _WINDOW[1]):
            right = columns[:, left : left + _WINDOW[1]]
            window = source.read(
                torch.tensor([[top, left]]), (down.shape[1], right.shape[1]), level
            )
            dtype = window.dtype
            _add(total, window[0].float().numpy(), down, right)
    view = torch.from_numpy(total).transpose(0, 1).contiguous()
    return view.round_().clamp_(0, 255).to(dtype) if dtype == torch.uint8 else view.to(dtype)


def view_size(
    source: ImageSource, size: Sequence[int] | None = None, scale: float | None = None
) -> tuple[int, int]:
    """Height and width of a view, of at least one pixel.

    Raises:
        ValueError: for both or neither of size and scale, or a view larger than the image.
    """
    full = source.shape[1:]
    if (size is None) == (scale is None):
        raise ValueError(f"expected either a size or a scale, got size={size}, scale={scale}")
    if scale is not None:
        # Down, as levels of resolution mostly are: rounded up, a view would be a pixel larger than
        # the level that is meant for it. Products of whole numbers may come out just below them.
        size = [max(1, int(side * scale + 1e-9)) for side in full]
    assert size is not None  # one of them is given
    check_size("size", size)
    if size[0] > full[0] or size[1] > full[1] or (scale is not None and not 0 < scale <= 1):
        raise ValueError(
            f"{source.name}: expected a view no larger than the image, {full[0]} x {full[1]}, got "
            f"{'scale ' + str(scale) if scale is not None else tuple(size)}: ask for a smaller one"
        )
    return size[0], size[1]


def _shares(length: int, count: int) -> Any:
    """`(count, length)` sparse: what part of the mean over each of `count` areas a pixel is.

    In units of 1 / count of a pixel an area is `length` wide and a pixel `count`, at most as much:
    a pixel lies in one area or in two.
    """
    start = np.arange(length) * count
    first = start // length
    inside = np.minimum((first + 1) * length - start, count)
    over = inside < count
    return sparse.csc_array(
        (
            np.concatenate([inside, (count - inside)[over]]).astype(np.float32) / length,
            (
                np.concatenate([first, first[over] + 1]),
                np.concatenate([np.arange(length), np.flatnonzero(over)]),
            ),
        ),
        shape=(count, length),
    )


def _add(total: NDArray[np.float32], window: NDArray[np.float32], down: Any, right: Any) -> None:
    """Adds to the view `(H, C, W)` what a window `(C, h, w)` has part in."""
    channels, height, width = window.shape
    i, j = (slice(each.indices.min(), each.indices.max() + 1) for each in (down, right))
    flat = window.transpose(1, 0, 2).reshape(height, channels * width)
    part = down[i].tocsr() @ flat
    part = part.reshape(-1, channels, width).transpose(2, 0, 1).reshape(width, -1)
    part = right[j].tocsr() @ part
    total[i, :, j] += part.reshape(part.shape[0], -1, channels).transpose(1, 2, 0)
