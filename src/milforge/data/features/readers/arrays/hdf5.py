"""Arrays in HDF5 files, as CLAM, TRIDENT, STAMP and torchmil write them."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.faults import BagError, Fault, bag_error
from milforge.data.features.readers.arrays.array_file import StoredArray, name_damage
from milforge.data.features.readers.arrays.chunk_index import read_chunk_index
from milforge.data.features.readers.arrays.places import Places, Stamp, place_runs, stamp_of
from milforge.data.features.readers.bag_reader import Rows

# To skip this many rows takes longer than to read them: a call of HDF5 costs as much as 32 rows
# of 1,024 float16, or as two rows where each is a chunk of its own, as CLAM writes them.
_LONGEST_GAP = 64
_GAP_OF_SINGLE_ROWS = 2
_FEWEST_CHUNKS = 100  # fewer the library names in less time than it takes to read their index
_MOST_LINKS = 32


@contextmanager
def open_hdf5(path: Path) -> Iterator[Mapping[str, StoredArray]]:
    """The data sets of an HDF5 file by their paths in it, `features` for example."""
    import h5py

    # Locks fail on some network file systems, and nothing is written here.
    with h5py.File(path, "r", locking="best-effort") as file:
        yield _Datasets(path, file)


class _Datasets(Mapping[str, StoredArray]):
    """The data sets of an open file; only those that are asked for are opened."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path = path
        self._file = file
        self._opened: dict[str, StoredArray | None] = {}

    def __getitem__(self, key: str) -> StoredArray:
        if key not in self._opened:
            with name_damage(self._path):
                self._opened[key] = self._open(key)
        found = self._opened[key]
        if found is None:
            raise KeyError(key)
        return found

    def _open(self, key: str) -> StoredArray | None:
        """None where there is nothing of that name, or a group."""
        node = _followed(self._path, self._file, key)
        if not hasattr(node, "shape"):
            return None
        if node.external:
            raise _elsewhere(self._path, key, "external storage")
        if node.is_virtual:
            raise _elsewhere(self._path, key, "a virtual dataset")
        return StoredArray(
            path=self._path,
            key=key,
            shape=node.shape or (),
            dtype=node.dtype.name,
            load=partial(_load, node),
            find_attribute=partial(_attribute, (node, self._file)),
            find_places=partial(_find_places, self._path, node) if self._is_plain else _nowhere,
        )

    @cached_property
    def _is_plain(self) -> bool:
        """Whether places in the file count from its beginning, and it is no other than it seems."""
        return self._file.driver == "sec2" and not self._file.userblock_size

    def __iter__(self) -> Iterator[str]:
        names: list[str] = []
        with name_damage(self._path):
            self._file.visit(names.append)
        return (name for name in names if name in self)

    def __len__(self) -> int:
        return len(list(iter(self)))


def _followed(path: Path, file: Any, key: str) -> Any:
    """What stands under a key, None where there is nothing.

    Link by link, as h5py itself follows those that lead into other files.

    Raises:
        BagError: for a link into another file, or links that lead nowhere but to each other.
    """
    import h5py

    names, node = [name for name in key.split("/") if name], file
    for _ in range(_MOST_LINKS):
        if not names:
            return None if node is file else node
        if not hasattr(node, "keys"):  # a data set has nothing below it
            return None
        name, *names = names
        link = node.get(name, getlink=True)
        if isinstance(link, h5py.HardLink):
            node = node[name]
        elif isinstance(link, h5py.SoftLink):
            node = file if link.path.startswith("/") else node
            names = [*(part for part in link.path.split("/") if part not in ("", ".")), *names]
        elif link is None:
            return None
        else:
            raise _elsewhere(path, key, "an external link")
    raise _elsewhere(path, key, f"a chain of more than {_MOST_LINKS} links")


def _elsewhere(path: Path, key: str, what: str) -> BagError:
    message = f"expected {key!r} in the file itself, got {what}, which may read any other file"
    return bag_error([Fault("", path, message, "write the bag again, with its values in it")])


def _attribute(nodes: Iterable[Any], name: str) -> Any:
    """Of the data set or else of the file; None where neither has it."""
    return next((node.attrs[name] for node in nodes if name in node.attrs), None)


def _nowhere(stamp: Stamp) -> None:
    """No place is known."""


def _find_places(path: Path, dataset: Any, stamp: Stamp) -> Places | None:
    """Where the values lie, contiguous or in chunks of whole rows.

    None where there is anything to decode: filters, another order of bytes, numbers that NumPy does
    not have; and where values are missing, which the library fills in.
    """
    import h5py

    shape, dtype, store = dataset.shape, dataset.dtype, dataset.id.get_create_plist()
    if (
        not shape
        or not dataset.size
        or dtype.kind not in "iuf"
        or not dataset.id.get_type().equal(h5py.h5t.py_create(dtype))
        or store.get_nfilters()
    ):
        return None
    if store.get_layout() == h5py.h5d.CONTIGUOUS:
        start = dataset.id.get_offset()
        if start is None:
            return None
        return place_runs(path, stamp, shape, dtype, np.array([start], np.int64), shape[0])
    chunk = dataset.chunks
    if store.get_layout() != h5py.h5d.CHUNKED or chunk[1:] != shape[1:]:
        return None
    count = -(-shape[0] // chunk[0])
    if count * _chunk_bytes(dataset) > stamp[2]:  # the file cannot hold them all
        return None
    starts = _read_starts(path, stamp, dataset, count)
    if starts is None:
        starts = _ask_starts(dataset, count)
    return None if starts is None else place_runs(path, stamp, shape, dtype, starts, chunk[0])


def _chunk_bytes(dataset: Any) -> int:
    return int(math.prod(dataset.chunks) * dataset.dtype.itemsize)


def _read_starts(path: Path, stamp: Stamp, dataset: Any, count: int) -> NDArray[np.int64] | None:
    """Where each chunk begins, from the index in the file; None where the library must be asked."""
    import h5py

    if count < _FEWEST_CHUNKS or not hasattr(os, "preadv"):
        return None
    # `h5o.get_info` follows the nodes of the index from one to the next, in a damaged file forever.
    header = h5py.h5g.get_objinfo(dataset.id).objno[0]
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stamp_of(file) != stamp:
            return None
        starts = read_chunk_index(file, header, dataset.chunks, dataset.dtype.itemsize, count)
        if starts is None or not _agrees(dataset, file, starts):
            return None
    finally:
        os.close(file)
    return starts


def _agrees(dataset: Any, file: int, starts: NDArray[np.int64]) -> bool:
    """Whether the library says the same of the first chunk, and finds three where they should be.

    To ask where another one lies takes as long as to pass all chunks before it; to find one is a
    search.
    """
    rest = (0,) * (len(dataset.shape) - 1)
    if dataset.id.get_chunk_info_by_coord((0, *rest)).byte_offset != starts[0]:
        return False
    size = _chunk_bytes(dataset)
    for number in (0, len(starts) // 2, len(starts) - 1):
        _, values = dataset.id.read_direct_chunk((number * dataset.chunks[0], *rest))
        if values != os.pread(file, size, int(starts[number])):
            return False
    return True


def _ask_starts(dataset: Any, count: int) -> NDArray[np.int64] | None:
    """The same from the library; None where a chunk is missing or went through a filter."""
    found: list[tuple[tuple[int, ...], int, int, int]] = []

    def keep(chunk: tuple[tuple[int, ...], int, int, int]) -> bool | None:
        found.append(chunk)
        return True if len(found) > count else None  # True ends what may have no end

    dataset.id.chunk_iter(keep)  # 2 us per chunk; to ask for each by its number takes 40
    if len(found) != count:
        return None
    offsets, masks, places, sizes = zip(*found, strict=True)
    numbers = np.array(offsets, np.int64)[:, 0] // dataset.chunks[0]
    if any(masks) or set(sizes) != {_chunk_bytes(dataset)} or numbers.max() >= count:
        return None
    starts = np.full(count, -1, np.int64)
    starts[numbers] = places
    return None if (starts < 0).any() else starts


def _load(dataset: Any, rows: Rows | None) -> NDArray[Any]:
    import h5py

    if dataset.dtype.hasobject and h5py.check_string_dtype(dataset.dtype):
        words = np.asarray(dataset.asstr()[()], dtype=str)
        return words if rows is None else words[rows]
    values = np.asarray(dataset[()]) if rows is None else _load_rows(dataset, rows)
    # PyTorch takes the byte order of the machine alone.
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _load_rows(dataset: Any, rows: Rows) -> NDArray[Any]:
    """Reads the rows in slabs of neighbouring ones.

    h5py's own selection by a list takes 380 ms for 10,000 rows of 20,000 x 1,024 float16 in chunks
    of 256 rows, slabs 26 ms, the whole array 11 ms; for 200 rows it is 13, 6 and 11 ms.
    """
    out = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
    single = dataset.chunks is not None and dataset.chunks[0] == 1
    longest = _GAP_OF_SINGLE_ROWS if single else _LONGEST_GAP
    cuts = np.flatnonzero(np.diff(rows) > longest) + 1
    bounds = [0, *cuts.tolist(), len(rows)] if len(rows) else [0]
    for start, stop in pairwise(bounds):
        first = int(rows[start])
        slab = dataset[first : int(rows[stop - 1]) + 1]
        out[start:stop] = slab[rows[start:stop] - first]
    return out
