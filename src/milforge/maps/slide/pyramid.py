"""A slide as small pictures, to be shown in a page."""

import base64
import io
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from milforge.data.images.sources import low_resolution
from milforge.sampling import ImageSource

LONGEST = 4096  # pixels of the longer side
TILE = 1024
QUALITY = 80  # of JPEG

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Pyramid:
    """A slide from afar, in JPEG.

    Attributes:
        width: pixels of the largest level.
        height: the same.
        levels: the tiles of each level line by line, as addresses that hold them; the last is the
            largest, and each has half the pixels of the next, rounded up.
    """

    width: int
    height: int
    levels: tuple[tuple[str, ...], ...]


def seen_from_afar(source: ImageSource, longest: int = LONGEST) -> Image.Image:
    """An image as a picture whose longer side has at most so many pixels.

    Raises:
        OSError: where the image cannot be read.
    """
    height, width = source.shape[1:]
    factor = min(1.0, longest / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return Image.fromarray(as_rgb(low_resolution(source, size=size)))


def build_pyramid(whole: Image.Image) -> Pyramid:
    """The pyramid of a picture, down to a level of a single tile."""
    levels: list[tuple[str, ...]] = []
    while not levels or len(levels[-1]) > 1:
        part = 2 ** len(levels)
        size = ceil(whole.width / part), ceil(whole.height / part)
        level = whole if part == 1 else whole.resize(size, Image.Resampling.BOX)
        levels.append(tuple(_tiles(level)))
    return Pyramid(whole.width, whole.height, tuple(levels[::-1]))


def _tiles(level: Image.Image) -> list[str]:
    width, height = level.size
    return [
        address(level.crop((x, y, min(x + TILE, width), min(y + TILE, height))))
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
    ]


def address(picture: Image.Image) -> str:
    """A picture as an address that holds it."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def as_rgb(pixels: torch.Tensor) -> Picture:
    """Pixels `(C, h, w)` as a picture `(h, w, 3)`.

    One channel is grey, of more than three the first three count. Floats above 1 are scaled by the
    largest.

    Example:
        >>> as_rgb(torch.tensor([[[0.0, 0.5, 1.0]]]))[0, :, 0].tolist()
        [0, 128, 255]
    """
    values: NDArray[Any] = pixels.numpy()
    if pixels.is_floating_point():
        values = np.nan_to_num(values.astype(np.float32))
        values = np.rint(np.clip(values / max(1.0, float(values.max(initial=0))), 0, 1) * 255)
    values = values if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    found: Picture = np.ascontiguousarray(values[:3].transpose(1, 2, 0)).astype(np.uint8)
    return found
