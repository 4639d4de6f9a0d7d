"""How many bags a run looks at, where the trainer is told to stop before the end of a part."""

from collections.abc import Sequence
from math import ceil

Limit = int | float


def limited(batches: int, limit: Limit) -> int:
    """How many of these batches Lightning reads: at most `limit`, or that share where it is float.

    Example:
        >>> limited(10, 3), limited(2, 3), limited(10, 0.25), limited(10, 1.0)
        (3, 2, 2, 10)
    """
    return min(limit, batches) if isinstance(limit, int) else int(batches * limit)


def trained_bags(batches: Sequence[Sequence[int]], limit: Limit) -> int:
    """How many bags an epoch looks at.

    Args:
        batches: the numbers of the bags in each batch, of all processes together.
        limit: `trainer.limit_train_batches`.
    """
    return sum(map(len, batches[: limited(len(batches), limit)]))


def evaluated_bags(bags: int, batch_size: int, world_size: int, limit: Limit) -> int:
    """How many bags of a part are looked at: process r reads the bags r, r + world size, ...

    Args:
        bags: number of bags in the part.
        batch_size: of each process.
        world_size: number of processes.
        limit: `trainer.limit_val_batches`, or that of another stage.

    Example:
        >>> evaluated_bags(10, batch_size=4, world_size=1, limit=2)
        8
    """
    shares = [len(range(rank, bags, world_size)) for rank in range(world_size)]
    return sum(
        min(share, batch_size * limited(ceil(share / batch_size), limit)) for share in shares
    )
