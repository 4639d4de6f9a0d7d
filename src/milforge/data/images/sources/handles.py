"""Open files: each opened once in a process, shared by its threads, closed in the end."""

import atexit
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Below the usual limit of 1024 files a process, and slides keep tables of their tiles in memory.
CAPACITY = 64


class Handle(Protocol):
    """An open image file, which threads may read at the same time."""

    channels: int
    dtype: np.dtype[Any]
    levels: tuple[tuple[int, int], ...]

    def read(self, row: int, column: int, height: int, width: int, level: int) -> NDArray[Any]:
        """`(C, h, w)`, a window that lies within the level, of this dtype."""
        ...

    def close(self) -> None:
        """Lets go of the file."""
        ...


class _Entry:
    def __init__(self) -> None:
        self.opening = Lock()
        self.handle: Handle | None = None
        self.users = 0


class Handles:
    """The files that this process holds open, the least recently used closed first.

    A forked process starts with none: what it inherits it neither uses nor closes, as another
    thread of its parent may have been in the middle of using it.

    Args:
        capacity: files that are held while nobody reads them.

    Example:
        >>> class Nothing:
        ...     def __init__(self, path):
        ...         print("open", path)
        ...
        ...     def close(self):
        ...         print("close")
        >>> handles = Handles(capacity=1)
        >>> for path in ("a", "a", "b"):
        ...     with handles.lend(Nothing, path) as handle:
        ...         print("read", path)
        open a
        read a
        read a
        open b
        read b
        close
        >>> handles.close()
        close
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._inherited: list[object] = []
        self._forget()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @contextmanager
    def lend(
        self, opener: Callable[..., Handle], *arguments: Any, stamp: object = None
    ) -> Iterator[Handle]:
        """The handle `opener(*arguments)`, which stays open at least until the body is left.

        Args:
            opener: opens a file.
            arguments: arguments of the opener.
            stamp: distinguishes a file from another that was put in its place.

        Raises:
            Exception: what the opener raises.
        """
        key = (opener, *arguments, stamp)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            entry.users += 1
        try:
            with entry.opening:
                if entry.handle is None:
                    entry.handle = opener(*arguments)
            yield entry.handle
        finally:
            with self._lock:
                entry.users -= 1
                self._trim(self.capacity)

    def close(self) -> None:
        """Closes every file that nobody reads."""
        with self._lock:
            self._trim(0)

    def _trim(self, capacity: int) -> None:
        for key in list(self._entries):
            entry = self._entries[key]
            failed = entry.handle is None
            if entry.users == 0 and (failed or len(self._entries) > capacity):
                del self._entries[key]
                if entry.handle is not None:
                    entry.handle.close()

    def _forget(self) -> None:
        # Kept, so that nothing is finalised here that the parent still uses.
        self._inherited.append(getattr(self, "_entries", None))
        self._lock = Lock()
        self._entries: OrderedDict[tuple[Any, ...], _Entry] = OrderedDict()


handles = Handles(CAPACITY)


def close_files() -> None:
    """Closes the image files that this process holds open; a later read opens them again."""
    handles.close()
