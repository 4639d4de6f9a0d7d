"""Bags that stay in memory after they are read once."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from milforge.data.bag import ONE_STREAM, Bag, streams_of
from milforge.data.batch import BagBatch, collate_bags, collate_onto
from milforge.data.dataset import LabelledDataset, bag_sizes, differs_by_epoch
from milforge.data.loading.tables import Tables


class KeptBags:
    """Reads all bags once, keeps their instances in one table, and gathers batches from it.

    The batches are those of `milforge.data.loading.read_ahead.ReadAhead`, with the instances on
    the device.

    Args:
        bags: for which `milforge.data.dataset.reads_into` is true.
        empty: a batch of no bags: it shows dtype and shape of the instances.
        tables: gives the memory of batches, where the bags are kept in that of the machine.
        device: where the instances are kept.
        threads: that read.
        coords: whether the batches need the coords of the bags.

    Raises:
        ValueError: where the bags differ between epochs.
    """

    def __init__(
        self,
        bags: LabelledDataset[Bag],
        empty: BagBatch,
        tables: Tables,
        *,
        device: torch.device,
        threads: int,
        coords: bool = True,
    ) -> None:
        if _draws(bags):
            raise ValueError(
                "loader.keep: expected bags that are the same in every epoch, got others with "
                "data.max_instances_per_bag: leave loader.keep=null"
            )
        self.bags: Any = bags
        self.empty = empty if coords else replace(empty, coords=None)
        self.tables = tables
        self.device = device
        self.threads = threads
        self.coords = coords
        sizes = bag_sizes(bags)
        counts = [0] * len(bags) if sizes is None else sizes.tolist()
        self.bounds = list(accumulate(counts, initial=0))

    def __call__(self, batches: Iterable[Sequence[int]]) -> Iterator[BagBatch]:
        """The batches of these bag numbers; all bags are read when the first is asked for.

        Raises:
            BagError: where a bag is faulty.
            ValueError: where bags do not fit each other.
        """
        for numbers in batches:
            yield self._gather([self._kept[number] for number in numbers])

    @cached_property
    def _kept(self) -> list[Bag]:
        """All bags; the instances of each are rows of the table."""
        with torch.inference_mode(False):  # else training could not use what a test has read
            table = {
                name: torch.empty(
                    self.bounds[-1], *like.shape[1:], dtype=like.dtype, device=self.device
                )
                for name, like in streams_of(self.empty.x).items()
            }
        kept: list[Bag] = []
        with ThreadPoolExecutor(self.threads, "milforge-read") as pool:
            for first in range(0, len(self.bags), self.threads):
                numbers = range(first, min(first + self.threads, len(self.bags)))
                for number, bag in zip(numbers, pool.map(self._read, numbers), strict=True):
                    rows = slice(*self.bounds[number : number + 2])
                    x = {}
                    for name, values in streams_of(bag.x).items():
                        x[name] = table[name][rows]
                        if x[name].shape != values.shape or x[name].dtype != values.dtype:
                            collate_bags([kept[0] if kept else bag, bag])  # says what differs
                            raise ValueError(
                                f"bag {bag.bag_id!r}: expected as many instances as before "
                                "training, got others: its file has changed, start again"
                            )
                        x[name].copy_(values)
                    kept.append(replace(bag, x=x[ONE_STREAM] if isinstance(bag.x, Tensor) else x))
        return kept

    def _read(self, number: int) -> Bag:
        bag: Bag = self.bags.read_into(number, coords=self.coords)
        return bag

    def _gather(self, bags: Sequence[Bag]) -> BagBatch:
        if not bags:
            return self.empty
        parts: dict[str, list[Tensor]] = {}
        for bag in bags:
            for name, values in streams_of(bag.x).items():
                parts.setdefault(name, []).append(values)
        x = {name: self._joined(each) for name, each in parts.items()}
        return collate_onto(bags, x[ONE_STREAM] if isinstance(bags[0].x, Tensor) else x)

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        if self.device.type != "cpu":
            return torch.cat(list(parts))
        rows = sum(map(len, parts))
        out = self.tables.take((rows, *parts[0].shape[1:]), parts[0].dtype)
        return torch.cat(list(parts), out=out)


def _draws(bags: Any) -> bool:
    """Whether other instances of a bag are given in other epochs."""
    while hasattr(bags, "bags"):
        bags = bags.bags
    return differs_by_epoch(bags) and getattr(bags, "max_instances_per_bag", 0) is not None


def check_room(instances: int, empty: BagBatch, device: torch.device) -> None:
    """Checks that bags can be kept on a device.

    Args:
        instances: of all of them.
        empty: a batch of no bags: it shows dtype and shape of the instances.
        device: where they are to be kept.

    Raises:
        ValueError: where they do not fit; it says how much is needed and how much there is.
    """
    each = sum(x.new_empty(1, *x.shape[1:]).nbytes for x in streams_of(empty.x).values())
    needed, free = instances * each, free_memory(device)
    if free is not None and needed > free:
        raise ValueError(
            f"loader.keep: expected room for {needed / 1e9:.1f} GB, the {instances:,} instances of "
            f"training and validation, got {free / 1e9:.1f} GB that are free on {device}: leave "
            "loader.keep=null, or choose memory where the device is too small"
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where the system does not say it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as lines:
            found = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    return int(found) * 1024
