"""Where the values of an array lie in its file, and how they are read from there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.features.readers.bag_reader import Rows

# A gap in the file that is shorter is read and thrown away: that costs less than another call.
_LONGEST_GAP = 32 * 1024
_MOST_BUFFERS = 1000  # of one call; systems allow 1,024
# Younger files are not remembered: a change within a tick of the clock would not show.
_SETTLED_AFTER = 2.0

Stamp = tuple[int, int, int, int, int]


def stamp_of(file: int | Path) -> Stamp:
    """What tells a file from another, and from itself after a change: of a path or an open file.

    Raises:
        OSError: where there is no such file.
    """
    stat = os.stat(file)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def has_settled(stamp: Stamp) -> bool:
    """Whether the file is old enough for its stamp to show every change."""
    return time() - max(stamp[3:]) / 1e9 > _SETTLED_AFTER


@dataclass(frozen=True, eq=False)
class Places:
    """Where the values of an array lie in a file, as they are held in memory.

    Args:
        path: the file.
        stamp: of the file when this was found out; of a file that has changed nothing is read.
        shape: of the array.
        dtype: of the array, in the byte order of the machine.
        begins: `(R + 1,)` int64: the bytes of the array, in C order, lie in R runs; where each run
            begins in the array, and last the number of all bytes.
        starts: `(R,)` int64 where each run begins in the file. A run holds whole rows.
    """

    path: Path
    stamp: Stamp
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    begins: NDArray[np.int64] = field(repr=False)
    starts: NDArray[np.int64] = field(repr=False)

    def read(self, out: NDArray[Any], rows: Rows | None = None) -> bool:
        """Reads the array, or the rows of those numbers, which must ascend.

        Args:
            out: of their shape and dtype, in C order; it is written to.
            rows: `(n,)`; None reads all.

        Returns:
            Whether that could be done; not so where the file has changed or is too short. What is
            in `out` counts for nothing then.
        """
        begins, starts = (self.begins, self.starts) if rows is None else self._runs(rows)
        target = out.reshape(-1).view(np.uint8).data if out.size else memoryview(b"")
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            for offset, buffers in _calls(begins, starts, target):
                if not _read(file, offset, buffers):
                    return False
            return stamp_of(file) == self.stamp
        except OSError:
            return False
        finally:
            os.close(file)

    def _runs(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The runs of some rows."""
        size = int(self.begins[-1]) // max(1, self.shape[0])
        if not len(rows) or not size:
            return np.zeros(1, np.int64), np.zeros(0, np.int64)
        run = np.searchsorted(self.begins, rows * size, side="right") - 1
        places = self.starts[run] + rows * size - self.begins[run]
        first = np.flatnonzero(np.diff(places, prepend=places[0] - 2 * size) != size)
        return np.append(first, len(rows)) * size, places[first]


def place_runs(
    path: Path,
    stamp: Stamp,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    starts: NDArray[np.int64],
    rows: int,
) -> Places | None:
    """The places of an array that lies in pieces of so many rows each, neighbours put together.

    Args:
        path: the file.
        stamp: of the file.
        shape: of the array, `(N, ...)`.
        dtype: of the array.
        starts: `(ceil(N / rows),)` int64 where each piece begins in the file, in order.
        rows: of each piece; the last may have more than there are left.

    Returns:
        None where this machine cannot read so, or has its numbers otherwise.
    """
    if not hasattr(os, "preadv") or dtype.kind not in "iufb" or not dtype.isnative:
        return None
    whole = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    piece = rows * (whole // shape[0]) if shape and shape[0] else whole
    begins = np.arange(len(starts), dtype=np.int64) * piece
    first = np.flatnonzero(np.diff(starts, prepend=starts[:1] - 2 * piece - 1) != piece)
    return Places(path, stamp, shape, dtype, np.append(begins[first], whole), starts[first])


def _calls(
    begins: NDArray[np.int64], starts: NDArray[np.int64], target: memoryview
) -> Iterator[tuple[int, list[memoryview]]]:
    """For each call its offset in the file, and the pieces of memory that are filled one by one."""
    waste = memoryview(bytearray(_LONGEST_GAP))
    offset, end, buffers = 0, -1, list[memoryview]()
    bounds = begins.tolist()
    for start, first, last in zip(starts.tolist(), bounds[:-1], bounds[1:], strict=True):
        gap = start - end
        if buffers and 0 <= gap <= _LONGEST_GAP and len(buffers) < _MOST_BUFFERS - 1:
            if gap:
                buffers.append(waste[:gap])
        else:
            if buffers:
                yield offset, buffers
            offset, buffers = start, []
        buffers.append(target[first:last])
        end = start + last - first
    if buffers:
        yield offset, buffers


def _read(file: int, offset: int, buffers: list[memoryview]) -> bool:
    """Fills the pieces of memory; False where the file ends before."""
    while buffers:
        got = os.preadv(file, buffers, offset)
        if got == 0:
            return False
        offset += got
        # A call may stop anywhere: at 2 GB it must.
        while buffers and got >= len(buffers[0]):
            got -= len(buffers.pop(0))
        if got:
            buffers[0] = buffers[0][got:]
    return True
