"""Patches read from images that are not held in memory."""

import os
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from threading import Lock

import torch
from torch import Tensor

from milforge.sampling.offsets import check_size
from milforge.sampling.source import ImageSource

# Threads: more than there are cores, for one that waits for a disk needs none.
_COUNT = max(4, 2 * (os.cpu_count() or 1))
# Windows that a thread reads in one go: enough that handing them over costs nothing beside.
_CHUNK = 4


def read_patches(
    sources: Sequence[ImageSource],
    offsets: Tensor,
    patch_size: tuple[int, int],
    level: int = 0,
    pool: Executor | None = None,
) -> Tensor:
    """Reads patches of images; outside of an image there are zeros.

    Args:
        sources: `B` images, of any sizes, with the same number of channels and dtype.
        offsets: `(B, n, 2)` integer, row and column of the upper left corner of each patch in
            pixels of the level, as `extract_patches` takes them. May be on a GPU.
        patch_size: height and width of a patch.
        level: number of the level of resolution that is read.
        pool: what the windows are read by. None: threads of this process, shared by all calls.

    Returns:
        `(B, n, C, ph, pw)` uint8 or float, in host memory.

    Raises:
        ValueError: where offsets and images do not fit each other, the images differ in channels
            or dtype, or an image does not have the level.
        OSError: where a window cannot be read; names file and window.

    Example:
        >>> from milforge.data import TensorSource
        >>> source = TensorSource(torch.arange(1, 10, dtype=torch.uint8).reshape(1, 3, 3))
        >>> read_patches([source], torch.tensor([[[0, 1], [2, -1]]]), (2, 2))[0, :, 0]
        tensor([[[2, 3],
                 [5, 6]],
        <BLANKLINE>
                [[0, 7],
                 [0, 0]]], dtype=torch.uint8)
    """
    fits = offsets.ndim == 3 and offsets.shape[0] == len(sources) and offsets.shape[2] == 2
    if not sources or not fits or offsets.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"expected at least one image and integer offsets of shape ({len(sources)}, n, 2) to "
            f"go with {len(sources)} images, got {offsets.dtype} of shape {tuple(offsets.shape)}"
        )
    check_size("patch_size", patch_size)
    first = sources[0]
    for other in sources:
        if other.shape[0] != first.shape[0]:
            raise ValueError(
                f"expected images of the same number of channels in a batch, got {first.name} "
                f"with {first.shape[0]} and {other.name} with {other.shape[0]}: convert one"
            )
    chunks = [torch.split(each, _CHUNK) for each in offsets.cpu().long()]
    pool = pool or _threads.pool()
    read = [
        [pool.submit(source.read, chunk, patch_size, level) for chunk in each]
        for source, each in zip(sources, chunks, strict=True)
    ]
    windows = _results(read)
    for source, each in zip(sources, windows, strict=True):
        if each[0].dtype != windows[0][0].dtype:
            raise ValueError(
                f"expected images of the same dtype in a batch, got {first.name} of "
                f"{windows[0][0].dtype} and {source.name} of {each[0].dtype}: convert one"
            )
    # As many of each image, so that images and their windows are two axes.
    return torch.stack([torch.cat(each) for each in windows])


def _results(read: list[list[Future[Tensor]]]) -> list[list[Tensor]]:
    """What was read; after an error nothing is left running, and nothing more begins."""
    try:
        return [[future.result() for future in each] for each in read]
    except BaseException:
        futures = [future for each in read for future in each]
        for future in futures:
            future.cancel()
        wait(futures)
        raise


class _Threads:
    """The threads of this process: begun when first asked for."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Starts again in a forked process: it has no threads, and the lock may be held."""
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> ThreadPoolExecutor:
        """The pool, the same in each call."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_COUNT, thread_name_prefix="read_patches")
            return self._pool


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)
