"""Where the tiles of a TIFF file lie, and how they are decoded."""

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milforge.data.images.sources.formats.packages import require
from milforge.data.images.sources.formats.pixels import pixel_dtype
from milforge.data.images.sources.formats.tiff_pyramid import pyramid

# A window costs whole tiles, or strips where there are none: larger ones could not be read often.
_MOST_BYTES = 64 * 2**20
_GREY, _RGB, _YCBCR = 1, 2, 6
_JPEG = 7
_UNTOLD = (33003,)  # JPEG 2000 of YCbCr that does not say so, and would come out as such


class Plane(NamedTuple):
    """The tiles of some of the channels of a level: of all, where they lie together.

    Attributes:
        offsets: `(tiles,)` int64, where each begins in the file, row by row.
        counts: `(tiles,)` int64, its bytes; 0 for one that is not stored.
        channels: how many a tile holds.
        decode: from the bytes and the number of a tile to its pixels, `(h, w, channels)`.
    """

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    channels: int
    decode: Callable[[bytes, int], NDArray[Any]]


class Level(NamedTuple):
    """A level of resolution: its size, the size of its tiles, and where they lie."""

    size: tuple[int, int]
    tile: tuple[int, int]
    planes: tuple[Plane, ...]


class Header(NamedTuple):
    """What the header of a TIFF file says of its first image."""

    dtype: np.dtype[Any]
    levels: tuple[Level, ...]


def read_header(stream: BinaryIO, path: Path) -> Header:
    """Reads the headers of the first image of a TIFF file, and checks that its tiles are there.

    Args:
        stream: the open file.
        path: what errors call it.

    Raises:
        ValueError: where it is no TIFF, is truncated, or holds no plane image of grey values,
            channels or RGB.
        ModuleNotFoundError: where `tifffile` or `imagecodecs` is not installed.
    """
    tifffile = require("tifffile")
    require("imagecodecs")
    end = stream.seek(0, 2)
    stream.seek(0)
    try:
        with tifffile.TiffFile(stream, name=path.name) as tiff:
            _check_list(tiff, end)
            images = tiff.series
            if not images:
                raise ValueError("it holds no image")
            stored = pyramid(images)
            levels = tuple(_level(level, tifffile.TIFF) for level in stored)
            dtype = images[0].dtype
            last = max(last_byte(page) for level in stored for page in level.pages)
    except _Unsuited as error:
        raise ValueError(f"{path}: {error}") from None
    except (ValueError, OSError, struct.error, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a whole TIFF file, got one that cannot be read ({error}): it is "
            "truncated or something else, get it again"
        ) from error
    if last > end:
        raise ValueError(
            f"{path}: expected a whole TIFF file, of at least {last} bytes, got {end}: it is "
            "truncated, get it again"
        )
    return Header(pixel_dtype(dtype, path), levels)


def last_byte(page: Any) -> int:
    """How long the file must be to hold all that is stored of a page of tifffile."""
    ends = np.asarray(page.dataoffsets, np.int64) + np.asarray(page.databytecounts, np.int64)
    return int(ends.max(initial=0))


class _Unsuited(Exception):
    """A TIFF file that is whole, but no image that can be read here."""


def _check_list(tiff: Any, end: int) -> None:
    """Checks that the list of images has an end: tifffile only logs where it breaks off."""
    position = tiff.pages.next_page_offset
    stream = tiff.filehandle
    stream.seek(position)
    if struct.unpack(tiff.tiff.offsetformat, stream.read(tiff.tiff.offsetsize))[0] != 0:
        raise ValueError("the list of its images breaks off")
    for page in tiff.pages:
        if any(offset >= end for offset in page.subifds or ()):
            raise ValueError("a level of resolution lies beyond the end")


def _level(series: Any, known: Any) -> Level:
    """Level of resolution of an image: one page of all channels, or a page for each channel."""
    page = series.keyframe
    _check_page(page, known)
    sizes = dict(zip(series.axes, series.shape, strict=True))
    others = {axis: n for axis, n in sizes.items() if axis not in "YX" and n > 1}
    if len(others) > 1 or not set(others) <= set("SCQ"):
        raise _Unsuited(
            f"expected an image of rows, columns and channels, got axes {series.axes} of shape "
            f"{series.shape}: store one plane of it"
        )
    channels = max(others.values(), default=1)
    if any(each is None or each.parent is not page.parent for each in series.pages):
        raise _Unsuited("expected an image in one file, got one in several: store it in one")
    together = page.samplesperpixel if page.planarconfig == 1 else 1
    if len(series.pages) * page.samplesperpixel != channels:
        raise _Unsuited(
            f"expected a page for each of {channels} channels, got {len(series.pages)} pages of "
            f"{page.samplesperpixel}: store it in tiles"
        )
    size = page.imagelength, page.imagewidth
    if page.is_tiled:
        tile = page.tilelength, page.tilewidth
    else:
        tile = min(page.rowsperstrip, size[0]), size[1]
    if math.prod(tile) * together * page.dtype.itemsize > _MOST_BYTES:
        raise _Unsuited(
            f"expected tiles, or strips of at most {_MOST_BYTES >> 20} MiB, got strips of "
            f"{tile[0]} x {tile[1]} pixels: store it in tiles"
        )
    count = math.ceil(size[0] / tile[0]) * math.ceil(size[1] / tile[1])
    planes = [
        Plane(offsets, counts, together, _decoder(page, each.jpegtables))
        for each in series.pages
        for offsets, counts in _tables(each, count)
    ]
    return Level(size, tile, tuple(planes))


def _check_page(page: Any, known: Any) -> None:
    """Checks that pixels of this kind can be decoded, and mean what they seem to."""
    compression, photometric = int(page.compression), int(page.photometric)
    if photometric not in (_GREY, _RGB) and (photometric, compression) != (_YCBCR, _JPEG):
        raise _Unsuited(
            f"expected grey values, channels or RGB, got {page.photometric.name} with compression "
            f"{compression}: open it as SlideSource, or convert it to RGB"
        )
    if (compression != 1 and compression not in known.DECOMPRESSORS) or compression in _UNTOLD:
        raise _Unsuited(
            f"expected a compression that imagecodecs decodes to RGB, got {compression}: open it "
            "as SlideSource, or store it with another"
        )
    if page.dtype is None or page.bitspersample != 8 * page.dtype.itemsize:
        raise _Unsuited(
            f"expected pixels of whole bytes, got {page.bitspersample} bits: convert them"
        )
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise _Unsuited(f"expected a plane image, got a volume of depth {page.imagedepth}: cut it")


def _tables(page: Any, count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Offsets and bytes of the tiles, for each plane of a page."""
    offsets, counts = (
        np.asarray(values, np.int64) for values in (page.dataoffsets, page.databytecounts)
    )
    if len(offsets) != len(counts) or len(offsets) == 0 or len(offsets) % count:
        raise ValueError(f"a list of {count} tiles is {len(offsets)} and {len(counts)} long")
    # Without a place in the file a tile is not stored either.
    counts = np.where(offsets > 0, counts, 0)
    yield from zip(offsets.reshape(-1, count), counts.reshape(-1, count), strict=True)


def _decoder(page: Any, tables: bytes | None) -> Callable[[bytes, int], NDArray[Any]]:
    """What decodes the tiles of a page; it holds neither page nor file."""
    decode = page.decode
    tabled = {"jpegtables": tables} if int(page.compression) == _JPEG else {}

    def tile(data: bytes, number: int) -> NDArray[Any]:
        pixels: NDArray[Any] = decode(data, number, **tabled)[0][0]
        return pixels

    return tile
