"""A large image that is empty but for a few small ones, held as these."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Canvas:
    """An `ImageSource`: small images on a black ground, which do not overlap.

    Takes memory for the small images alone, however large it is.

    Args:
        size: height and width.
        glyphs: the small images, each `(h, w)` uint8.
        places: `(len(glyphs), 2)` int64, row and column of their upper left corners.
        name: what errors call it.

    Raises:
        ValueError: where there is not a place for each glyph, or one lies outside of the canvas.

    Example:
        >>> canvas = Canvas((100, 100), [np.full((2, 2), 7, np.uint8)], np.array([[50, 60]]))
        >>> canvas.read(torch.tensor([[49, 60]]), (3, 2))[0, 0]
        tensor([[0, 0],
                [7, 7],
                [7, 7]], dtype=torch.uint8)
    """

    size: tuple[int, int]
    glyphs: Sequence[NDArray[np.uint8]]
    places: NDArray[np.int64]
    name: str = "canvas"

    def __post_init__(self) -> None:
        sizes = self._sizes()
        if self.places.shape != sizes.shape:
            raise ValueError(
                f"{self.name}: expected places of shape {sizes.shape}, one a glyph, got "
                f"{self.places.shape}"
            )
        outside = ((self.places < 0) | (self.places + sizes > self.size)).any(1)
        if outside.any():
            first = int(outside.argmax())
            raise ValueError(
                f"{self.name}: expected glyphs within the canvas of {self.size[0]} x "
                f"{self.size[1]}, got one of {sizes[first, 0]} x {sizes[first, 1]} at "
                f"{self.places[first].tolist()}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """One channel, height and width."""
        return (1, *self.size)

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """One level of resolution."""
        return (self.size,)

    @property
    def mpp(self) -> None:
        """None: it is of no microscope."""
        return None

    def read(self, offsets: Tensor, size: tuple[int, int], level: int = 0) -> Tensor:
        """Windows of the canvas, `(n, 1, h, w)` uint8; see `ImageSource.read`."""
        if level != 0:
            raise ValueError(f"{self.name}: expected level 0, the only one, got {level}")
        windows = np.zeros((len(offsets), 1, *size), np.uint8)
        corners = offsets.numpy()
        sizes = self._sizes()
        # (n, glyphs, 2): where window and glyph begin and end on each other.
        first = np.maximum(corners[:, None], self.places)
        last = np.minimum(corners[:, None] + np.array(size), self.places + sizes)
        for i, g in np.argwhere((first < last).all(2)):
            (top, left), (bottom, right) = first[i, g] - corners[i], last[i, g] - corners[i]
            (y0, x0), (y1, x1) = first[i, g] - self.places[g], last[i, g] - self.places[g]
            windows[i, 0, top:bottom, left:right] = self.glyphs[g][y0:y1, x0:x1]
        return torch.from_numpy(windows)

    def low(self, size: tuple[int, int]) -> Tensor:
        """The canvas at low resolution: each pixel is the mean of what it covers.

        Args:
            size: height and width, at most those of the canvas.

        Returns:
            `(1, h, w)` float32 from 0 to 1.
        """
        view = np.zeros(size, np.float64)
        for glyph, (row, column) in zip(self.glyphs, self.places.tolist(), strict=True):
            rows, down = _coverage(row, glyph.shape[0], self.size[0], size[0])
            columns, across = _coverage(column, glyph.shape[1], self.size[1], size[1])
            view[rows, columns] += down @ glyph @ across.T
        return torch.from_numpy(view / 255).float()[None]

    def _sizes(self) -> NDArray[np.int64]:
        return np.array([glyph.shape for glyph in self.glyphs], np.int64).reshape(-1, 2)


def _coverage(start: int, length: int, high: int, low: int) -> tuple[slice, NDArray[np.float64]]:
    """Along an axis: the low pixels that a glyph touches, and its pixels' shares of each."""
    scale = high / low
    first, last = int(start / scale), min(int(np.ceil((start + length) / scale)), low)
    pixels = np.arange(first, last)[:, None] * scale
    glyph = start + np.arange(length)
    overlap = np.minimum(pixels + scale, glyph + 1) - np.maximum(pixels, glyph)
    return slice(first, last), overlap.clip(0) / scale
