"""Which bags make a batch, on one process or on many."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class TrainBatches(Sampler[list[int]]):
    """Shuffled batches, for `DataLoader(batch_sampler=...)`.

    A global batch is `batch_size` bags, whatever the number of processes; each process gets its
    share of it. The order depends on `(seed, epoch)` alone. Every process takes part in every
    step: a last batch with fewer bags than processes is joined to the one before.

    Args:
        num_bags: number of bags in the data set.
        batch_size: bags in a global batch, an optimiser step.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: for a batch size below the number of processes, or fewer bags than processes.

    Example:
        >>> batches = TrainBatches(5, batch_size=2, seed=0)
        >>> [len(batch) for batch in batches]
        [2, 2, 1]
    """

    def __init__(
        self, num_bags: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size < world_size:
            raise ValueError(
                f"expected data.batch_size of at least {world_size}, one bag a process, got "
                f"{batch_size}"
            )
        if num_bags < world_size:
            raise ValueError(
                f"expected at least one training bag a process, got {num_bags} for {world_size}"
            )
        self.num_bags = num_bags
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    @property
    def sampler(self) -> "TrainBatches":
        """Itself: Lightning sets the epoch of a batch sampler's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, and with it the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of steps of an epoch, the same on every process."""
        full, rest = divmod(self.num_bags, self.batch_size)
        return full + (rest >= self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Bag numbers of this process, batch by batch."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_bags)
        for step in range(len(self)):
            stop = self.num_bags if step == len(self) - 1 else (step + 1) * self.batch_size
            yield order[step * self.batch_size : stop][self.rank :: self.world_size].tolist()


class EvaluationBags(Sampler[int]):
    """The bags that one process evaluates: every bag on exactly one process.

    Args:
        num_bags: number of bags in the data set.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: where a process would get no bag, which the metrics cannot bear.

    Example:
        >>> list(EvaluationBags(5, rank=1, world_size=2))
        [1, 3]
    """

    def __init__(self, num_bags: int, rank: int = 0, world_size: int = 1) -> None:
        if num_bags < world_size:
            raise ValueError(
                f"expected at least one bag a process to evaluate, got {num_bags} bags for "
                f"{world_size} processes; use fewer devices"
            )
        self._bags = range(rank, num_bags, world_size)

    def __len__(self) -> int:
        """Number of bags of this process."""
        return len(self._bags)

    def __iter__(self) -> Iterator[int]:
        """Bag numbers in rising order."""
        return iter(self._bags)
