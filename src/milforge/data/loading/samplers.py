"""Which bags make a batch, on one process or on many."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler


def draw_balanced(labels: ArrayLike, rng: np.random.Generator) -> list[int]:
    """Draws as many bags as there are, with replacement, every class equally likely.

    Bag i is drawn with probability `1 / (classes * n_c)`, where n_c bags are of its class c.

    Args:
        labels: `(n,)` classes, or `(n, C)` multilabel; a combination of labels is a class then.
        rng: source of randomness.

    Example:
        >>> drawn = draw_balanced([0] * 999 + [1], np.random.default_rng(0))
        >>> len(drawn), 450 < drawn.count(999) < 550
        (1000, True)
    """
    _, classes, counts = np.unique(
        np.asarray(labels), axis=0, return_inverse=True, return_counts=True
    )
    weights = 1 / (len(counts) * counts[classes.reshape(-1)])
    drawn: list[int] = rng.choice(len(weights), size=len(weights), p=weights).tolist()
    return drawn


def cut_batches(
    order: Sequence[int], sizes: Sequence[int], batch_size: int, max_instances: int | None
) -> list[list[int]]:
    """Cuts a sequence of bags into batches, without changing its order.

    A batch ends where the next bag would be one too many, or bring it beyond `max_instances`. A
    bag that is larger than that is a batch of its own. Sorting by size would fill batches better,
    but put bags of like size, and with them often of like label, together.

    Args:
        order: bag numbers.
        sizes: instances of each bag, by its number.
        batch_size: most bags in a batch.
        max_instances: most instances in a batch; None: no limit.

    Example:
        >>> cut_batches([0, 1, 2, 3], [3, 9, 1, 2], batch_size=2, max_instances=5)
        [[0], [1], [2, 3]]
    """
    batches: list[list[int]] = []
    held = 0
    for bag in order:
        held += sizes[bag]
        full = bool(batches) and len(batches[-1]) == batch_size
        if not batches or full or (max_instances is not None and held > max_instances):
            batches.append([])
            held = sizes[bag]
        batches[-1].append(bag)
    return batches


def deal(batch: Sequence[int], sizes: Sequence[int], world_size: int) -> list[list[int]]:
    """Deals the bags of a batch to processes so that they have about equally many instances.

    From the largest bag to the smallest, each goes to the process with the fewest instances (LPT;
    Graham 1969, https://doi.org/10.1137/0117039): the largest load is at most 4/3 of the best
    possible. Bags of one size are dealt in turn. A process gets no bag only where there are fewer
    bags than processes.

    Args:
        batch: bag numbers.
        sizes: instances of each bag, 1 or more, by its number.
        world_size: number of processes.

    Returns:
        For each process its bags, in the order of the batch.

    Example:
        >>> deal([0, 1, 2, 3], [1, 7, 4, 2], world_size=2)
        [[1], [0, 2, 3]]
    """
    loads = [0] * world_size
    hands: list[list[int]] = [[] for _ in range(world_size)]
    for position in sorted(range(len(batch)), key=lambda i: -sizes[batch[i]]):
        rank = loads.index(min(loads))
        loads[rank] += sizes[batch[position]]
        hands[rank].append(position)
    return [[batch[position] for position in sorted(hand)] for hand in hands]


class TrainBatches(Sampler[list[int]]):
    """Shuffled batches, for `DataLoader(batch_sampler=...)`.

    A global batch, that is an optimiser step, holds up to `batch_size` bags and, where given, up
    to `max_instances` instances, on any number of processes; each process gets its share of
    it. The bags are shuffled, then cut as `cut_batches` does and dealt as `deal` does.

    Every process has the same number of steps. With `sizes`, the sequence of global batches
    depends on `(seed, epoch)` alone, and a process that gets no bag in a step yields an empty
    list, of which `collate_bags` makes a batch without bags. Without `sizes` no list is empty: a
    last batch with fewer bags than processes is joined to the one before.

    Args:
        num_bags: number of bags in the data set.
        batch_size: most bags in a global batch.
        seed: seed of the order.
        rank: number of this process.
        world_size: number of processes.
        sizes: instances of each bag; ones, where they are not known.
        max_instances: most instances in a global batch; a larger bag is a batch of its own. None:
            no limit.
        balanced_by: `(n,)` or `(n, C)` labels: bags are drawn by `draw_balanced`, as many per
            epoch as there are bags. None: each bag once per epoch.
        on_epoch: is called with each epoch that is set, for bags that differ between epochs.

    Attributes:
        epoch: the epoch whose batches are given.
        start: number of global batches of this epoch that are left out, because they are done.

    Raises:
        ValueError: for a batch size below the number of processes, fewer bags than processes,
            other numbers of sizes or labels than bags, or a limit of instances without sizes.

    Example:
        >>> batches = TrainBatches(5, batch_size=2, seed=0)
        >>> [len(batch) for batch in batches]
        [2, 2, 1]
    """

    def __init__(
        self,
        num_bags: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        sizes: ArrayLike | None = None,
        max_instances: int | None = None,
        balanced_by: ArrayLike | None = None,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        if batch_size < world_size:
            raise ValueError(
                f"expected loader.batch_size of at least {world_size}, one bag per process, got "
                f"{batch_size}"
            )
        if num_bags < world_size:
            raise ValueError(
                f"expected at least one training bag per process, got {num_bags} for {world_size}"
            )
        if max_instances is not None and max_instances < 1:
            raise ValueError(f"expected loader.max_instances of at least 1, got {max_instances}")
        if max_instances is not None and sizes is None:
            raise ValueError(
                f"expected the sizes of the bags with loader.max_instances={max_instances}, got "
                "none: give loader.batch_size alone"
            )
        self.num_bags = num_bags
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.max_instances = max_instances
        self.on_epoch = on_epoch
        self.epoch = 0
        self.start = 0
        self._joins_last = sizes is None
        self._sizes = [1] * num_bags if sizes is None else _as_sizes(sizes, num_bags)
        self._labels = None if balanced_by is None else _as_labels(balanced_by, num_bags)

    @property
    def sampler(self) -> "TrainBatches":
        """Itself: Lightning sets the epoch of a batch sampler's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, and with it the order; another epoch begins with its first batch."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch
        if self.on_epoch is not None:
            self.on_epoch(epoch)

    def state_dict(self, batches: int) -> dict[str, int]:
        """What a run needs to go on inside this epoch, on any number of processes.

        Args:
            batches: global batches of this epoch that are done. The trainer knows this number;
                the sampler does not, since workers read ahead.
        """
        return {"epoch": self.epoch, "batch": batches, "digest": self._digest()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes on where the state was taken; with the next epoch where that one was done.

        Raises:
            ValueError: where the epoch has begun and its global batches were others.
        """
        before, self.epoch = self.epoch, state["epoch"]
        if state["batch"] > 0 and state["digest"] != self._digest():
            self.epoch = before
            raise ValueError(
                f"expected to go on inside epoch {state['epoch']} with its batches, got others: "
                "resume with the data, seed, loader.batch_size and loader.max_instances of the "
                "run, or from a checkpoint of the end of an epoch"
            )
        self.set_epoch(state["epoch"])
        self.start = state["batch"]
        if self.start >= len(self.global_batches()):
            self.set_epoch(self.epoch + 1)  # before the trainer says so, as workers read ahead

    def global_batches(self) -> list[list[int]]:
        """The bag numbers of every global batch of this epoch."""
        rng = np.random.default_rng((self.seed, self.epoch))
        if self._labels is None:
            order = rng.permutation(self.num_bags).tolist()
        else:
            order = draw_balanced(self._labels, rng)
        batches = cut_batches(order, self._sizes, self.batch_size, self.max_instances)
        if self._joins_last and len(batches[-1]) < self.world_size:
            last = batches.pop()
            batches[-1] += last
        return batches

    def __len__(self) -> int:
        """Number of steps of a whole epoch, the same on every process.

        Raises:
            TypeError: with `max_instances`, where epochs differ in it. (Lightning takes a length
                for that of every epoch, and would cut the longer ones.)
        """
        if self.max_instances is not None:
            raise TypeError(
                "batches by max_instances have no length: their number differs between epochs"
            )
        full, rest = divmod(self.num_bags, self.batch_size)
        return full + (rest >= self.world_size if self._joins_last else rest > 0)

    def __iter__(self) -> Iterator[list[int]]:
        """Bag numbers of this process, batch by batch."""
        for batch in self.global_batches()[self.start :]:
            yield deal(batch, self._sizes, self.world_size)[self.rank]

    def _digest(self) -> int:
        return crc32(repr(self.global_batches()).encode())


def _as_sizes(sizes: ArrayLike, num_bags: int) -> list[int]:
    array = np.asarray(sizes)
    if array.shape != (num_bags,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"expected the sizes of {num_bags} bags as whole numbers, got {array.dtype} of shape "
            f"{array.shape}"
        )
    values: list[int] = array.tolist()
    if min(values) < 1:
        raise ValueError(
            f"expected bags of at least one instance, got {min(values)} for bag number "
            f"{values.index(min(values))}: leave it out"
        )
    return values


def _as_labels(labels: ArrayLike, num_bags: int) -> NDArray[np.generic]:
    array = np.asarray(labels)
    if array.ndim not in (1, 2) or len(array) != num_bags:
        raise ValueError(
            f"expected the labels of {num_bags} bags to draw them balanced, got shape {array.shape}"
        )
    return array
