"""In which order the instances of a bag stand in a square or a sequence."""

from typing import Literal

import torch
from torch import Tensor

from milforge.data import BagBatch
from milforge.functional import segment_index

Order = Literal["file", "coords"]


def instance_order(batch: BagBatch, order: Order) -> Tensor:
    """`(N,)` int64: the rows of the instances, bag after bag.

    Args:
        batch: the bags.
        order: `file`, as they came; or `coords`, line by line: by the last coordinate, then by the
            one before it. So the order in the file does not matter, unless two lie in one place. Of
            a bag of several slides, each with coords of its own, one slide comes after the other.

    Raises:
        ValueError: where they are to be ordered by coords and there are none.
    """
    rows = torch.arange(batch.num_instances, device=batch.ptr.device)
    if order == "file":
        return rows
    if batch.coords is None:
        raise ValueError(
            "expected bags with coords for model.order=coords, got none: choose model.order=file"
        )
    for axis in batch.coords.unbind(1):
        rows = rows[axis[rows].argsort(stable=True)]
    if batch.slide is not None:
        rows = rows[batch.slide[rows].argsort(stable=True)]
    bag = segment_index(batch.ptr, len(rows))
    return rows[bag[rows].argsort(stable=True)]


def side_of(size: int, multiple: int = 1) -> int:
    """Side of the smallest square that holds so many instances, a multiple of a number.

    Example:
        >>> side_of(9), side_of(10), side_of(10, 8)
        (3, 4, 8)
    """
    side = int(size**0.5)
    side += side * side < size
    return -(-side // multiple) * multiple
