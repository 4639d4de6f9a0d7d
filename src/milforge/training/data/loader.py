"""A DataLoader that can go on in the middle of an epoch, and whose workers outlast signals."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from milforge.data import BagBatch, ImageBatch, TrainBatches
from milforge.processes.signal_numbers import USR1, USR2, there

_HANDLES = 24  # files that a batch takes to be handed over, and some more

Item = TypeVar("Item")
Reader = Callable[[Iterable[Sequence[int]]], Iterator[Any]]
Batch = BagBatch | ImageBatch


def outlast_signals(worker: int) -> None:
    """Makes a process that reads data leave only when the one that started it ends it.

    A queue sends its signals to every process of a job, and the run needs its readers until it is
    saved. To be called in the process, as the `worker_init_fn` of a DataLoader.
    """
    for signum in there(USR1, USR2):
        signal.signal(signum, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):
        return  # macOS and Windows do not say who sends a signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class SharedCollate:
    """Collates in a process that reads data, and hands the batch over in shared memory at once.

    Torch does so later, in a thread from which no error reaches the run: where shared memory is
    full, as in a container with 64 MB of it, the run would wait for ever.

    Args:
        collate: makes a batch of items.
    """

    def __init__(self, collate: Callable[[Sequence[Any]], Batch]) -> None:
        self.collate = collate

    def __call__(self, items: Sequence[Any]) -> Batch:
        """The batch.

        Raises:
            OSError: where there is no room for it in shared memory, or no handle left for it.
        """
        batch = self.collate(items)
        try:
            batch = batch.share_memory()
            _check_handles()
            return batch
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise OSError(
                f"the memory that processes share (/dev/shm) has no room for a batch ({reason}): "
                "lower loader.num_workers (0 needs none), loader.batch_size or "
                "loader.max_instances, or make it larger (docker run --shm-size=8g)"
            ) from error


def _check_handles() -> None:
    """Checks that the thread that hands a batch over can open what it needs: two files a tensor.

    Raises:
        OSError: where it cannot (the system's, with its number).
    """
    opened: list[int] = []
    try:
        for _ in range(_HANDLES):
            opened.append(os.dup(0))
    finally:
        for handle in opened:
            os.close(handle)


class BagLoader(DataLoader[Item]):
    """A DataLoader whose batches threads of this process read, where something does so.

    Args:
        dataset: the bags.
        reader: reads batches; None: the DataLoader does.
        options: see `torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: Any, reader: Reader | None = None, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.reader = reader

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches, in order."""
        if self.reader is None or self.batch_sampler is None:
            return super().__iter__()
        return self.reader(self.batch_sampler)


class TrainLoader(BagLoader[Item]):
    """Batches of training bags, whose place in the epoch a checkpoint keeps.

    Args:
        dataset: the bags.
        batches: which of them make a batch.
        done: returns how many batches of this epoch the trainer has done; they are read ahead, so
            the sampler cannot know.
        options: see `BagLoader`.
    """

    def __init__(
        self, dataset: Any, batches: TrainBatches, done: Callable[[], int], **options: Any
    ) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self.batches = batches
        self.done = done

    def state_dict(self) -> dict[str, int]:
        """The place in the epoch."""
        return self.batches.state_dict(self.done())

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there."""
        self.batches.load_state_dict(state)
