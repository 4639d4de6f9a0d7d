"""What all sources share that read a file."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milforge.data.images.sources.handles import Handle, handles
from milforge.data.images.sources.resolution import micrometres_per_pixel
from milforge.processes.files import kind_of
from milforge.sampling.offsets import check_size

_MOST_PIXELS = 10**13  # a hundred times what scanners make; a header may say anything


class FileSource:
    """An `ImageSource` of a file, which is opened once in each process.

    It holds what the header says, and no file: pickled, it is as small as its path, and nothing is
    opened before it is read.

    Args:
        opener: opens the file: `opener(path, *options)`. A function or class of a module.
        path: the file.
        options: what else the opener takes.

    Raises:
        FileNotFoundError: where there is no such file.
        OSError: where it cannot be read.
        ValueError: where it is not what the opener reads.
    """

    def __init__(self, opener: Callable[..., Handle], path: str | Path, *options: Any) -> None:
        # The current directory may be another when the file is read.
        self.path = Path(path).absolute()
        if not self.path.exists():
            raise FileNotFoundError(f"{path}: expected an image, found no file: check the path")
        kind = kind_of(self.path)
        if kind not in ("a file", "a folder"):
            raise ValueError(f"{path}: expected an image, got {kind}: remove it")
        status = self.path.stat()
        self._stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        self._key = (opener, self.path, *options)
        with handles.lend(*self._key, stamp=self._stamp) as handle:
            self._shape = (handle.channels, *handle.levels[0])
            self._levels = handle.levels
            self._dtype = handle.dtype
        height, width = max(self._levels)
        if height * width > _MOST_PIXELS:
            raise ValueError(
                f"{path}: expected an image of at most {_MOST_PIXELS:.0e} pixels, got {height} x "
                f"{width}: what it says of its size is damaged, restore it from where it came from"
            )

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width at full resolution."""
        return self._shape

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level of resolution; the first is the full one."""
        return self._levels

    @cached_property
    def mpp(self) -> float | None:
        """Micrometres of a pixel; read when it is first asked for, and pickled from then on."""
        return micrometres_per_pixel(self.path)

    def read(self, offsets: Tensor, size: tuple[int, int], level: int = 0) -> Tensor:
        """Windows of the image, as `ImageSource.read` has it; threads may read at the same time.

        Raises:
            ValueError: for a level that there is not, or offsets or size of another form.
            OSError: where a window cannot be read; names file and window. Where the file is no
                longer there, or no longer what it was; names the file.
        """
        check_read(self.name, self._levels, offsets, size, level)
        height, width = size
        rows, columns = self._levels[level]
        with self._lend() as handle:
            out = np.empty((len(offsets), handle.channels, height, width), handle.dtype)
            for window, (row, column) in zip(out, offsets.tolist(), strict=True):
                top, left = max(row, 0), max(column, 0)
                h, w = min(row + height, rows) - top, min(column + width, columns) - left
                if h < height or w < width:
                    window.fill(0)
                if h <= 0 or w <= 0:
                    continue
                inner = slice(top - row, top - row + h), slice(left - column, left - column + w)
                try:
                    window[:, *inner] = handle.read(top, left, h, w, level)
                except MemoryError:
                    raise
                # Decoders raise what they like.
                except Exception as error:
                    raise OSError(
                        f"{self.name}: cannot read the window of {height} x {width} at row {row}, "
                        f"column {column} of level {level} ({_text(error)}): the file is damaged "
                        "there, restore it from where it came from"
                    ) from error
        return torch.from_numpy(out)

    @contextmanager
    def _lend(self) -> Iterator[Handle]:
        """The open file; one that was opened before, and cannot be now, is an OSError."""
        with ExitStack() as stack:
            try:
                handle = stack.enter_context(handles.lend(*self._key, stamp=self._stamp))
            except ValueError as error:
                raise OSError(f"{error}; it could be read before") from error
            found = (handle.channels, handle.levels, handle.dtype)
            if found != (self._shape[0], self._levels, self._dtype):
                raise OSError(
                    f"{self.name}: expected the image that was opened first, with {self._shape[0]} "
                    f"channels of {self._dtype} and levels {self._levels}, got {found[0]} of "
                    f"{found[2]} and {found[1]}: another was put in its place, start again"
                )
            yield handle

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def check_read(
    name: str,
    levels: tuple[tuple[int, int], ...],
    offsets: Tensor,
    size: tuple[int, int],
    level: int,
) -> None:
    """Checks what `read` is asked for.

    Raises:
        ValueError: for a level that there is not, or offsets or size of another form.
    """
    if not 0 <= level < len(levels):
        known = ", ".join(f"{i}: {h} x {w}" for i, (h, w) in enumerate(levels))
        raise ValueError(f"{name}: expected one of its levels ({known}), got {level}")
    if (
        offsets.ndim != 2
        or offsets.shape[1] != 2
        or offsets.dtype not in (torch.int64, torch.int32)
    ):
        raise ValueError(
            f"{name}: expected integer offsets of shape (n, 2), got {offsets.dtype} of shape "
            f"{tuple(offsets.shape)}"
        )
    check_size("size", size)


def _text(error: Exception) -> str:
    """What an error says in one line, or of what kind it is where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
