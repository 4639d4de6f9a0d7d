"""Which bags a process evaluates."""

from collections.abc import Iterator

from torch.utils.data import Sampler


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
                f"expected at least one bag per process to evaluate, got {num_bags} bags for "
                f"{world_size} processes; use fewer devices"
            )
        self._bags = range(rank, num_bags, world_size)

    def __len__(self) -> int:
        """Number of bags of this process."""
        return len(self._bags)

    def __iter__(self) -> Iterator[int]:
        """Bag numbers in rising order."""
        return iter(self._bags)
