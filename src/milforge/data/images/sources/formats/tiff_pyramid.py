"""Which images of a TIFF file are the levels of a pyramid."""

from collections.abc import Sequence
from typing import Any

# Of these tifffile knows no more than the pages; of a maker's format or OME it knows the pyramid.
_NO_FORMAT = ("generic", "shaped", "uniform")


def pyramid(images: Sequence[Any]) -> list[Any]:
    """The levels of the first image of a TIFF file, largest first, as series of tifffile.

    It sees levels by itself where each is the same fraction of the one before, a half, a third or
    a quarter. Of a file that is of no maker's format, other images are levels, too, that say to be
    reduced or are SubIFDs, and have the channels, dtype and proportions of the first.

    Args:
        images: the `series` of the file, at least one.
    """
    first = images[0]
    levels = list(first.levels)
    if first.kind in _NO_FORMAT:
        others = [level for image in images[1:] for level in image.levels]
        levels += [each for each in others if _is_reduced(each) and _is_level(each, first)]
    return sorted(levels, key=lambda level: -level.keyframe.imagelength)


def _is_reduced(series: Any) -> bool:
    return bool(series.keyframe.is_reduced or series.keyframe.is_subifd)


def _is_level(series: Any, first: Any) -> bool:
    """Whether a series is the first, smaller by one factor, its sides rounded up or down."""
    if series.axes != first.axes or series.dtype != first.dtype:
        return False
    sides = [
        (axis, n, whole)
        for axis, n, whole in zip(series.axes, series.shape, first.shape, strict=True)
        if axis in "YX" or n != whole
    ]
    if [axis for axis, _, _ in sides] != ["Y", "X"]:
        return False
    (_, h, height), (_, w, width) = sides
    # A side n of N came from a factor in (N / (n + 1), N / (n - 1)); the two ranges must meet.
    fits = height * (w - 1) < width * (h + 1) and width * (h - 1) < height * (w + 1)
    return bool(fits and h < height and w < width)
