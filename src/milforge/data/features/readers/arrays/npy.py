"""Arrays in NumPy's `.npy` files; nothing in them is unpickled."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from milforge.data.faults import Fault, bag_error
from milforge.data.features.readers.arrays.array_file import WHOLE, StoredArray
from milforge.data.features.readers.arrays.places import Places, Stamp, place_runs
from milforge.data.features.readers.bag_reader import Rows


@contextmanager
def open_npy(path: Path) -> Iterator[Mapping[str, StoredArray]]:
    """The array of the file, under the empty key.

    Raises:
        BagError: where it holds Python objects.
        ValueError: where it is not whole.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise bag_error(
                [
                    Fault(
                        "",
                        path,
                        "expected an array of numbers, got Python objects, which may hold code",
                        "save it as np.save(path, array.astype(np.float32))",
                    )
                ]
            )
        start = file.tell()
        needed, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
        if held < needed:
            raise ValueError(f"{needed} bytes of values announced, {held} there")
    load = partial(_load, path, start, shape, dtype, "F" if fortran else "C")
    find = partial(_find_places, path, start, shape, dtype, fortran)
    yield {WHOLE: StoredArray(path, WHOLE, shape, dtype.name, load, find_places=find)}


def _find_places(
    path: Path,
    start: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    fortran: bool,
    stamp: Stamp,
) -> Places | None:
    if fortran or not math.prod(shape):
        return None
    return place_runs(path, stamp, shape, dtype, np.array([start], np.int64), (*shape, 1)[0])


def _load(
    path: Path,
    start: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: Literal["C", "F"],
    rows: Rows | None,
) -> NDArray[Any]:
    values: NDArray[Any]
    if rows is None or not math.prod(shape):
        with path.open("rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
        values = values if rows is None else values[rows]
    else:
        mapped = np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)
        values = np.array(mapped[rows])
    return values.astype(values.dtype.newbyteorder("="), order="C", copy=False)
