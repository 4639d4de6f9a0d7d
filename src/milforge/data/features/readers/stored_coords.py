"""The coords of a bag, which its files may hold several times."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from milforge.data.faults import Fault, bag_error
from milforge.data.features.readers.bag_check import OpenBag
from milforge.data.features.readers.bag_reader import Rows


def read_coords(opened: OpenBag, rows: Rows | None) -> Tensor | None:
    """`(N, 2)` or `(N, 3)` float32 coords of an open bag; None where it has none.

    Raises:
        BagError: where a file is damaged, or streams have different coords.
    """
    stored = [(array.path, array.read(rows)) for array in opened.distinct_coords()]
    return agreeing(opened.bag_id, stored)


def agreeing(bag_id: str, stored: Sequence[tuple[Path, Tensor]]) -> Tensor | None:
    """The coords, float32, which must be the same in all streams that have them.

    Args:
        bag_id: name of the bag.
        stored: the file of each, and the coords in it.

    Returns:
        None where there are none.

    Raises:
        BagError: where streams have different coords.
    """
    if not stored:
        return None
    (path, coords), *others = ((path, each.to(torch.float32)) for path, each in stored)
    for other, same in others:
        if not torch.equal(coords, same):
            row = int((coords != same).any(dim=1).nonzero()[0])
            message = (
                f"expected the coords of {path}, got others from row {row} on "
                f"({same[row].tolist()} for {coords[row].tolist()})"
            )
            remedy = "extract both streams from the same patches"
            raise bag_error([Fault(bag_id, other, message, remedy)])
    return coords
