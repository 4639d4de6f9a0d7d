"""Slides in the formats of the scanners' makers."""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.images.sources.file_source import FileSource
from milforge.data.images.sources.formats.packages import require
from milforge.data.images.sources.formats.tiff_header import last_byte

# Of tiles, for each open slide: drawn windows seldom share one, and many slides may be open.
_CACHE_BYTES = 4 * 2**20
_WHITE = "FFFFFF"


class SlideSource(FileSource):
    """A slide as an `ImageSource`, read by OpenSlide as uint8 RGB.

    Where a level is no whole fraction of the full resolution, OpenSlide reads it shifted by up to
    half a pixel of level 0, and interpolates.

    Where nothing was scanned a slide is transparent; there, and where it is partly so, the
    background colour shines through that the slide names, or white. Outside of the slide is zero,
    as in all sources.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where OpenSlide does not know it, or it is truncated.
        ModuleNotFoundError: where `openslide` is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(_Slide, path)


class _Slide:
    """An open slide."""

    channels = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._openslide = require("openslide")
        try:
            self._slide = self._open()
            self.levels = tuple((h, w) for w, h in self._slide.level_dimensions)
            self._downsamples = self._slide.level_downsamples
            colour = self._slide.properties.get("openslide.background-color", _WHITE)
        except self._openslide.OpenSlideError as error:
            raise ValueError(
                f"{path}: expected a slide that OpenSlide reads, got one that it does not "
                f"({error}): it is truncated or of another kind, get it again or convert it to "
                "tiled TIFF"
            ) from error
        check_whole(path)
        colour = colour if re.fullmatch("[0-9A-Fa-f]{6}", colour) else _WHITE
        self._background = np.frombuffer(bytes.fromhex(colour), np.uint8)

    def read(self, row: int, column: int, height: int, width: int, level: int) -> NDArray[Any]:
        slide = self._slide
        try:
            rgba = self._region(slide, row, column, height, width, level)
        except self._openslide.OpenSlideError:
            # An OpenSlide that failed once, in whichever thread, refuses all that follows: what
            # others use is opened again, and this window tried by itself.
            self._slide = self._open()
            with self._open() as alone:
                rgba = self._region(alone, row, column, height, width, level)
        return over(rgba, self._background).transpose(2, 0, 1)

    def close(self) -> None:
        self._slide.close()

    def _open(self) -> Any:
        slide = self._openslide.OpenSlide(self._path)
        slide.set_cache(self._openslide.OpenSlideCache(_CACHE_BYTES))
        return slide

    def _region(
        self, slide: Any, row: int, column: int, height: int, width: int, level: int
    ) -> NDArray[np.uint8]:
        # The corner is asked for in pixels of level 0, at every level.
        scale = self._downsamples[level]
        corner = round(column * scale), round(row * scale)
        return np.asarray(slide.read_region(corner, level, (width, height)))


def check_whole(path: Path) -> None:
    """Checks that the tiles of a slide in TIFF lie in the file; OpenSlide meets them when it reads.

    Raises:
        ValueError: where the file ends before.
    """
    with open(path, "rb") as stream:
        if stream.read(2) not in (b"II", b"MM"):
            return
    tifffile = require("tifffile")
    try:
        with tifffile.TiffFile(path) as tiff:
            last = max((last_byte(page) for page in tiff.pages if page.is_tiled), default=0)
    except (ValueError, OSError, struct.error, LookupError, TypeError):
        return  # OpenSlide opened it, and knows kinds that tifffile does not
    if last > path.stat().st_size:
        raise ValueError(
            f"{path}: expected a whole slide, of at least {last} bytes, got "
            f"{path.stat().st_size}: it is truncated, get it again"
        )


def over(rgba: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(h, w, 3)`, what is seen of pixels `(h, w, 4)`, colours not multiplied by alpha.

    Example:
        >>> pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 51], [0, 0, 0, 0]]], np.uint8)
        >>> over(pixels, np.array([255, 255, 255], np.uint8)).tolist()
        [[[200, 100, 0], [244, 224, 204], [255, 255, 255]]]
    """
    colours, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return colours
    share = alpha.astype(np.float32) / 255
    return np.rint(colours * share + background * (1 - share)).astype(np.uint8)
