"""Memory for the instances of batches, used again and again."""

import weakref
from collections.abc import Callable, Sequence
from math import prod
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Memory is taken in steps of an eighth of its size, so that batches of like sizes share it.
_STEPS = 8
_SMALL = 1 << 20  # bytes: below, new memory costs as little


class _Piece:
    """Memory, and the array over it that lives as long as any tensor does."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.memory = memory
        self.part: Callable[[], NDArray[np.uint8] | None] = lambda: None


class Tables:
    """Gives tensors whose memory is that of earlier ones which nothing holds any longer.

    New memory costs more than to fill it: the system clears each page when it is first touched.
    Whoever holds a tensor, or a part of one, keeps its memory; so nothing that is in use is
    written over, and no more memory is taken than is in use at a time.

    Args:
        pinned: whether the memory is page-locked, from which copies to a GPU overlap with its work.
            PyTorch itself keeps such memory, and knows which copies are under way.

    Example:
        >>> tables = Tables()
        >>> first = tables.take((1 << 19,), torch.float32)
        >>> place = first.data_ptr()
        >>> tables.take((1 << 19,), torch.float32).data_ptr() == place
        False
        >>> del first
        >>> tables.take((1 << 19,), torch.float32).data_ptr() == place
        True
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self.pinned = pinned
        self._lock = Lock()
        self._held: list[_Piece] = []

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor of that shape and dtype, whose values are whatever they are."""
        # Threads write to it that are in no inference mode, which is that of a thread.
        with torch.inference_mode(False):
            return self._take(shape, dtype)

    def _take(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        size = prod(shape) * dtype.itemsize
        if self.pinned or size < _SMALL:
            return torch.empty(*shape, dtype=dtype, pin_memory=self.pinned)
        with self._lock:
            free = [piece for piece in self._held if piece.part() is None]
            fitting = [piece for piece in free if piece.memory.nbytes >= size]
            if fitting:
                piece = min(fitting, key=lambda each: each.memory.nbytes)
            else:
                if free:  # a larger one takes its place
                    self._held.remove(max(free, key=lambda each: each.memory.nbytes))
                piece = _Piece(np.empty(_rounded(size), np.uint8))
                self._held.append(piece)
            part = piece.memory[:size]
            piece.part = weakref.ref(part)
        return torch.from_numpy(part).view(dtype).view(*shape)

    @property
    def nbytes(self) -> int:
        """Bytes that are held, in use or not, where they are not page-locked."""
        return sum(piece.memory.nbytes for piece in self._held)


def _rounded(size: int) -> int:
    step = max(1, (1 << (size - 1).bit_length()) // (2 * _STEPS))
    return -(-size // step) * step
