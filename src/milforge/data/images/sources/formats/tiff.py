"""TIFF images, read tile by tile."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.images.sources.file_source import FileSource
from milforge.data.images.sources.formats.pixels import as_pixels
from milforge.data.images.sources.formats.tiff_header import Level, read_header


class TiffSource(FileSource):
    """A TIFF file as an `ImageSource`: its first image, with the levels of its pyramid.

    Reads tiled TIFF, BigTIFF, OME-TIFF and Aperio SVS of uint8, uint16 (read as float32 in [0, 1])
    or float; grey, RGB or any number of channels, stored together, apart or as pages; levels as
    SubIFDs or as pages; any compression of imagecodecs. Tiles that are not stored are zeros. Strips
    are read too, but a window costs every strip that it touches: use tiles for large images.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no TIFF, is truncated, or holds no plane image of such pixels.
        ModuleNotFoundError: where `tifffile` or `imagecodecs` is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(_Tiff, path)


class _Tiff:
    """An open TIFF file."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - `close` closes it
        try:
            header = read_header(self._file, path)
        except BaseException:
            self._file.close()
            raise
        self._levels = header.levels
        self.levels = tuple(level.size for level in header.levels)
        self.channels = sum(plane.channels for plane in header.levels[0].planes)
        self.dtype = header.dtype

    def read(self, row: int, column: int, height: int, width: int, level: int) -> NDArray[Any]:
        table = self._levels[level]
        rows, columns = table.tile
        across = -(-table.size[1] // columns)
        # (h, w, C), as the tiles are: their rows are copied, and the axes change only once.
        out = np.empty((height, width, self.channels), self.dtype)
        for i in range(row // rows, -(-(row + height) // rows)):
            inside_i, from_i = _overlap(i * rows, rows, row, height)
            for j in range(column // columns, -(-(column + width) // columns)):
                inside_j, from_j = _overlap(j * columns, columns, column, width)
                self._read_tile(table, i * across + j, out[inside_i, inside_j], from_i, from_j)
        return out.transpose(2, 0, 1)

    def _read_tile(
        self, table: Level, number: int, out: NDArray[Any], rows: slice, columns: slice
    ) -> None:
        """Fills this part of a window with these rows and columns of a tile."""
        channel = 0
        for plane in table.planes:
            part = out[:, :, channel : channel + plane.channels]
            channel += plane.channels
            count = int(plane.counts[number])
            if count == 0:
                part[:] = 0
                continue
            # Unlike seek and read, safe among threads; no buffer reads more than is asked for.
            data = os.pread(self._file.fileno(), count, int(plane.offsets[number]))
            if len(data) < count:
                raise OSError(f"expected a tile of {count} bytes, got {len(data)}")
            tile = plane.decode(data, number)
            part[:] = as_pixels(tile[rows, columns], self.dtype)

    def close(self) -> None:
        self._file.close()


def _overlap(start: int, length: int, window: int, size: int) -> tuple[slice, slice]:
    """Where a tile and a window lie on each other along an axis: in the window, in the tile."""
    first, last = max(start, window), min(start + length, window + size)
    return slice(first - window, last - window), slice(first - start, last - start)
