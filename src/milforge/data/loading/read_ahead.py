"""Batches that threads read ahead, each bag straight into its rows of the batch."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import ONE_STREAM, Bag, streams_of
from milforge.data.batch import BagBatch, collate_bags, collate_onto
from milforge.data.dataset import LabelledDataset, bag_sizes
from milforge.data.loading.tables import Tables

# Batches that are read, or being read, beside the one that is used.
AHEAD = 2
# With the one in use, the one that Lightning fetches before it, and one that is given back.
HELD = AHEAD + 3


class ReadAhead:
    """Reads batches of bags by threads, ahead of who uses them, in order.

    The instances of a batch are one table of reused memory, into which every bag is read; a batch
    of which one does not fit (its file has changed since the sizes were known, say) is collated
    from its bags as they are. The batches are those of `collate_bags`, and so are the errors, on
    any number of threads.

    Args:
        bags: for which `milforge.data.dataset.reads_into` is true.
        empty: a batch of no bags: it shows dtype and shape of the instances.
        tables: gives the memory.
        threads: that read.
        coords: whether the batches need the coords of the bags.

    Raises:
        ValueError: for fewer than one thread.
    """

    def __init__(
        self,
        bags: LabelledDataset[Bag],
        empty: BagBatch,
        tables: Tables,
        *,
        threads: int,
        coords: bool = True,
    ) -> None:
        if threads < 1:
            raise ValueError(f"expected loader.threads of at least 1, got {threads}")
        self.bags: Any = bags
        self.empty = empty if coords else replace(empty, coords=None)
        self.tables = tables
        self.threads = threads
        self.coords = coords

    def __call__(self, batches: Iterable[Sequence[int]]) -> Iterator[BagBatch]:
        """The batches of these bag numbers; nothing is read before the first is asked for.

        Raises:
            BagError: for the first bag that is faulty, when its batch is asked for.
            ValueError: where bags do not fit each other.
        """
        sizes = bag_sizes(self.bags)
        pool = ThreadPoolExecutor(self.threads, "milforge-read")
        waiting: deque[Future[BagBatch]] = deque()
        try:
            for numbers in batches:
                waiting.append(self._begin(pool, numbers, sizes))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, pool: ThreadPoolExecutor, numbers: Sequence[int], sizes: NDArray[np.int64] | None
    ) -> Future[BagBatch]:
        """Has the bags of a batch read; the thread that reads the last of them packs it."""
        batch: Future[BagBatch] = Future()
        if not numbers:
            batch.set_result(self._pinned(self.empty))
            return batch
        counts = [0] * len(numbers) if sizes is None else [int(sizes[each]) for each in numbers]
        bounds = list(accumulate(counts, initial=0))
        table = {
            name: self.tables.take((bounds[-1], *x.shape[1:]), x.dtype)
            for name, x in streams_of(self.empty.x).items()
        }
        places = [
            {name: x[start:stop] for name, x in table.items()} for start, stop in pairwise(bounds)
        ]
        read = [
            pool.submit(self.bags.read_into, number, place, coords=self.coords)
            for number, place in zip(numbers, places, strict=True)
        ]
        left = iter(range(len(read) - 1, -1, -1))

        def pack_if_last(_: Future[Bag]) -> None:
            if next(left) > 0:
                return
            try:
                batch.set_result(
                    self._pinned(_pack([each.result() for each in read], places, table))
                )
            except BaseException as error:
                batch.set_exception(error)
            # Else they would hold each other, and the memory, till the garbage is collected.
            for held in (read, places, table):
                held.clear()

        for each in list(read):
            each.add_done_callback(pack_if_last)
        return batch

    def _pinned(self, batch: BagBatch) -> BagBatch:
        return batch.pin_memory() if self.tables.pinned else batch


def _pack(
    bags: Sequence[Bag], places: Sequence[Mapping[str, Tensor]], table: Mapping[str, Tensor]
) -> BagBatch:
    if not all(map(_is_there, bags, places)):
        return collate_bags(bags)
    return collate_onto(bags, table[ONE_STREAM] if isinstance(bags[0].x, Tensor) else dict(table))


def _is_there(bag: Bag, place: Mapping[str, Tensor]) -> bool:
    """Whether the instances of a bag lie in the memory that was given for them."""
    x = streams_of(bag.x)
    return x.keys() == place.keys() and all(x[name] is place[name] for name in place)
