"""Whether features and coords are numbers, cheaply enough for every read."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from milforge.data.bag import Bag, streams_of
from milforge.data.faults import Fault, bag_error
from milforge.data.features.readers import BagReader, Rows

# The bits of positive infinity, the lowest that are not finite.
_INFINITY: dict[torch.dtype, tuple[Any, Any, int]] = {
    torch.float16: (np.int16, np.uint16, 0x7C00),
    torch.float32: (np.int32, np.uint32, 0x7F800000),
}
_AT_A_TIME = 1 << 19  # so that both maxima find the values in the processor's cache
_REMEDY = "extract the bag again, or remove these instances"


def check_finite(bag: Bag, reader: BagReader, rows: Rows | None = None) -> None:
    """Checks that no feature and no coordinate is NaN or infinite.

    NaN and infinity are the floating-point numbers whose exponent is all ones. Taken as integers,
    these are the largest of those with a sign and the largest of those without: two maxima tell
    whether there is any, at the speed of memory and on one thread.

    Args:
        bag: as it was read.
        reader: where it was read; names its files.
        rows: numbers of its instances in the file, None where it has all of them.

    Raises:
        BagError: where there is one; it names the file and the first such row, counted from 0.
    """
    x = streams_of(bag.x)
    parts = [("features", number, values) for number, values in enumerate(x.values())]
    if bag.coords is not None:
        parts.append(("coords", 0, bag.coords))
    bad = [(*part, rows_of) for part in parts if len(rows_of := _bad_rows(part[-1]))]
    if bad:
        files = list(reader.files(bag.bag_id).values())
        raise bag_error(
            Fault(bag.bag_id, files[number], _describe(what, values, found, rows), _REMEDY)
            for what, number, values, found in bad
        )


def _bad_rows(values: Tensor) -> Tensor:
    """Numbers of the rows that hold NaN or infinity."""
    if not values.is_floating_point() or _is_finite(values):
        return torch.zeros(0, dtype=torch.int64)
    return (~torch.isfinite(values).all(dim=1)).nonzero()[:, 0]


def _is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; also False for a dtype that is not looked at."""
    if values.dtype not in _INFINITY:
        return False
    signed, unsigned, infinity = _INFINITY[values.dtype]
    numbers = values.contiguous().numpy().reshape(-1)
    sign = np.iinfo(unsigned).max ^ np.iinfo(signed).max
    for start in range(0, len(numbers), _AT_A_TIME):
        part = numbers[start : start + _AT_A_TIME]
        if part.view(signed).max() >= infinity or part.view(unsigned).max() >= sign | infinity:
            return False
    return True


def _describe(what: str, values: Tensor, bad: Tensor, rows: Rows | None) -> str:
    first = int(bad[0])
    row = first if rows is None else int(rows[first])
    value = values[first][~torch.isfinite(values[first])][0].item()
    return (
        f"expected finite {what}, got {value} in row {row} and such values in {len(bad)} of "
        f"{len(values)} instances"
    )
