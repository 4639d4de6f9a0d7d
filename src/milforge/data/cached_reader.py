"""A copy of bags on a fast disk, as arrays that are mapped into memory."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.files import atomic_path
from milforge.data.readers import BagHeader, BagReader, Rows
from milforge.data.readers.folder_reader import FolderReader

_FORMAT = "1"  # of the files; part of every key
_NO_NUMPY = {torch.bfloat16: torch.int16}  # what stands in a file for a dtype that NumPy lacks
_DTYPES = {str(dtype): dtype for dtype in _NO_NUMPY}


class CachedReader:
    """A `BagReader` that copies each bag of another reader to a folder when it is first read.

    Worth its space where the files lie on a network disk, or are slow to decode. Each array of a
    bag is a `.npy` file of the dtype it is read in, float16 included; from the second read on it is
    mapped into memory, and of some instances only these are read.

    A copy is named by the paths, sizes and times of the files of the bag and by all options of the
    reader, so it stands for no other bag: data sets and options may share a folder. A copy that is
    not whole is made again. Any number of processes may read and write at once.

    Headers, labels and faults still come from the files themselves.

    Args:
        reader: the bags; those of a table are in memory already.
        folder: of the copies, made where it is not there.

    Raises:
        ValueError: for a table.
        OSError: where the folder cannot be made or written to.

    Example:
        >>> import tempfile
        >>> from milforge.data.readers import open_reader
        >>> root, folder = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
        >>> np.save(root / "a.npy", np.ones((5, 2), np.float16))
        >>> reader = CachedReader(open_reader(root), folder)
        >>> reader.read("a").x.dtype, len(list(folder.glob("*.npy")))
        (torch.float16, 1)
    """

    def __init__(self, reader: BagReader, folder: str | Path) -> None:
        if not isinstance(reader, FolderReader):
            raise ValueError(
                f"expected a folder of bags with data.cache, got the table {reader.root}, which is "
                "held in memory: leave data.cache=null"
            )
        self.reader = reader
        self.folder = Path(folder).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(
                f"{self.folder}: expected a folder to write to as data.cache, got no permission: "
                "let this user write there, or name another"
            )

    @property
    def root(self) -> Path:
        """The folder of the bags themselves."""
        return self.reader.root

    @property
    def layout(self) -> str:
        """Name of the layout."""
        return self.reader.layout

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the bags, sorted."""
        return self.reader.ids

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the feature sets."""
        return self.reader.streams

    @property
    def has_labels(self) -> bool:
        """Whether the layout stores bag labels."""
        return self.reader.has_labels

    def header(self, bag_id: str) -> BagHeader:
        """See `BagReader.header`."""
        return self.reader.header(bag_id)

    def label(self, bag_id: str) -> str | tuple[int, ...] | None:
        """See `BagReader.label`."""
        return self.reader.label(bag_id)

    def group(self, bag_id: str) -> str | None:
        """See `BagReader.group`."""
        return self.reader.group(bag_id)

    def read(self, bag_id: str, rows: Rows | None = None) -> Bag:
        """The bag, or the instances of those numbers, from its copy; see `BagReader.read`.

        Raises:
            BagError: where the bag is faulty.
            OSError: where the copy cannot be written.
        """
        key = self._key(bag_id)
        if key is None:  # a file is missing, which the reader tells
            return self.reader.read(bag_id, rows)
        arrays = self._load(key)
        if arrays is None:
            arrays = dict(_arrays_of(self.reader.read(bag_id)))
            self._store(key, arrays)
        return _bag_of(bag_id, {name: _take(each, rows) for name, each in arrays.items()})

    def coords(self, bag_id: str) -> Tensor | None:
        """The coords alone, from the copy where there is one; see `BagReader.coords`."""
        key = self._key(bag_id)
        arrays = None if key is None else self._load(key)
        return self.reader.coords(bag_id) if arrays is None else arrays.get("coords")

    def _key(self, bag_id: str) -> str | None:
        """What `read` gives depends on nothing else."""
        reader = self.reader
        paths: list[Path] = []
        for source in reader.sources.values():
            files = source.files.get(bag_id)
            if files is None or files.twins:
                return None
            paths += [files.features, *([files.coords] if files.coords else [])]
        side = reader.sides.get(bag_id)
        if side is not None and side.instance_labels is not None:
            paths.append(side.instance_labels)
        keys = [(name, source.features_keys) for name, source in reader.sources.items()]
        options = (reader.layout, keys, reader.coords_key, reader.inst_label_key, reader.positive)
        try:
            stats = [(str(path.resolve()), path.stat()) for path in paths]
        except OSError:
            return None
        # The change time too, as tools that copy files set back the modification time.
        files_now = [(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in stats]
        told = repr((_FORMAT, bag_id, options, files_now))
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def _load(self, key: str) -> dict[str, Tensor] | None:
        """The arrays of a copy by their names, mapped; None where there is none that is whole."""
        try:
            index = json.loads((self.folder / f"{key}.json").read_text())
            return {
                name: _map(self.folder / f"{key}.{number}.npy", tuple(shape), dtype)
                for number, (name, shape, dtype) in enumerate(index)
            } or None
        except Exception:  # a damaged file fails in many ways, and is made again whichever it is
            return None

    def _store(self, key: str, arrays: Mapping[str, Tensor]) -> None:
        for number, values in enumerate(arrays.values()):
            path = self.folder / f"{key}.{number}.npy"
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.save(file, _as_numpy(values), allow_pickle=False)
        index = [(name, list(each.shape), str(each.dtype)) for name, each in arrays.items()]
        # Last: where it is, the arrays are.
        with atomic_path(self.folder / f"{key}.json") as partial:
            partial.write_text(json.dumps(index))


def _arrays_of(bag: Bag) -> Iterator[tuple[str, Tensor]]:
    """The parts of a bag; streams are told from other parts by a slash before their name."""
    x = {"": bag.x} if isinstance(bag.x, Tensor) else bag.x
    yield from ((f"x/{name}", stream) for name, stream in x.items())
    for name, part in (("coords", bag.coords), ("y_inst", bag.y_inst)):
        if part is not None:
            yield name, part


def _bag_of(bag_id: str, arrays: Mapping[str, Tensor]) -> Bag:
    x = {name[2:]: each for name, each in arrays.items() if name.startswith("x/")}
    return Bag(
        x=x.get("", x),
        coords=arrays.get("coords"),
        y_inst=arrays.get("y_inst"),
        bag_id=bag_id,
    )


def _take(values: Tensor, rows: Rows | None) -> Tensor:
    return values if rows is None else values[torch.from_numpy(rows)]


def _as_numpy(values: Tensor) -> NDArray[Any]:
    return values.contiguous().view(_NO_NUMPY.get(values.dtype, values.dtype)).numpy()


def _map(path: Path, shape: tuple[int, ...], dtype: str) -> Tensor:
    """An array in a file that holds no more and no less than it.

    Raises:
        ValueError: where the file holds something else.
    """
    mapped = np.load(path, mmap_mode="c", allow_pickle=False)  # what is written stays in memory
    values = torch.from_numpy(np.asarray(mapped))
    if dtype in _DTYPES:
        values = values.view(_DTYPES[dtype])
    whole = path.stat().st_size == mapped.offset + mapped.nbytes
    if not whole or tuple(values.shape) != shape or str(values.dtype) != dtype:
        raise ValueError(f"{path}: expected {dtype} of shape {shape}, got another array")
    return values
