"""A copy of bags on a fast disk, as arrays that are mapped into memory."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from milforge.data.bag import ONE_STREAM, Bag
from milforge.data.content_cache import ContentCache
from milforge.data.features.readers import BagHeader, BagReader, Rows
from milforge.data.features.readers.bag_reader import Out, into
from milforge.data.features.readers.folder_reader import FolderReader


class CachedReader:
    """A `BagReader` that copies each bag of another reader to a folder when it is first read.

    Worth its space where the files lie on a network disk, or are slow to decode. A copy holds the
    arrays of a bag in the dtype they are read in, float16 included; from the second read on it is
    mapped into memory, and of some instances only these are read.

    A copy is named by the paths, sizes and times of the files of the bag and by all options of the
    reader (`BagReader.state`), so it stands for no other bag; see `milforge.data.content_cache`.
    Of files that were written a moment ago none is made yet.

    Headers, labels and faults still come from the files themselves.

    Args:
        reader: the bags; those of a table are in memory already.
        folder: of the copies, made where it is not there.

    Raises:
        ValueError: for a table.
        OSError: where the folder cannot be made or written to.

    Example:
        >>> import tempfile
        >>> from milforge.data.features.readers import open_reader
        >>> root, folder = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
        >>> import numpy as np
        >>> np.save(root / "a.npy", np.ones((5, 2), np.float16))
        >>> reader = CachedReader(open_reader(root), folder)
        >>> reader.read("a").x.dtype
        torch.float16
    """

    def __init__(self, reader: BagReader, folder: str | Path) -> None:
        if not isinstance(reader, FolderReader):
            raise ValueError(
                f"expected a folder of bags with data.cache, got the table {reader.root}, which is "
                "held in memory: leave data.cache=null"
            )
        self.reader = reader
        self._read: dict[str, str | None] = {}  # the state of the files that a copy was read for
        self.copies = ContentCache(folder, "data.cache")
        if not os.access(self.copies.folder, os.W_OK | os.X_OK):
            raise PermissionError(
                f"{folder}: expected a folder to write to as data.cache, got no permission: let "
                "this user write there, or name another"
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
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, where the layout has any."""
        return self.reader.feature_names

    @property
    def has_labels(self) -> bool:
        """Whether the layout stores bag labels."""
        return self.reader.has_labels

    def files(self, bag_id: str) -> Mapping[str, Path]:
        """See `BagReader.files`."""
        return self.reader.files(bag_id)

    def state(self, bag_id: str) -> str | None:
        """See `BagReader.state`."""
        return self.reader.state(bag_id)

    def header(self, bag_id: str, *, soon: int = 0) -> BagHeader:
        """See `BagReader.header`; what is read next are the copies."""
        return self.reader.header(bag_id)

    def label(self, bag_id: str) -> str | tuple[int, ...] | None:
        """See `BagReader.label`."""
        return self.reader.label(bag_id)

    def group(self, bag_id: str) -> str | None:
        """See `BagReader.group`."""
        return self.reader.group(bag_id)

    def read(
        self, bag_id: str, rows: Rows | None = None, *, out: Out | None = None, coords: bool = True
    ) -> Bag:
        """The bag, or the instances of those numbers, from its copy; see `BagReader.read`.

        Raises:
            BagError: where the bag is faulty.
            OSError: where the copy cannot be written.
        """
        state = self.reader.state(bag_id)
        self._read[bag_id] = state
        if state is None:
            return self.reader.read(bag_id, rows, out=out, coords=coords)
        arrays = self.copies.find(state)
        if arrays is None:
            arrays = dict(_arrays_of(self.reader.read(bag_id)))
            if self.reader.state(bag_id) == state:  # else they may be of a file that changed
                self.copies.put(state, arrays)
        if not coords:
            arrays.pop("coords", None)
        taken = {name: _take(each, rows) for name, each in arrays.items()}
        for name, each in taken.items():
            stream = name.removeprefix("x/")
            if stream != name:
                taken[name] = into(out, stream or ONE_STREAM, each)
        return _bag_of(bag_id, taken)

    def content(self, bag_id: str) -> str | None:
        """The name of the copy that was read."""
        return self._read.get(bag_id)

    def coords(self, bag_id: str) -> Tensor | None:
        """The coords alone, from the copy where there is one; see `BagReader.coords`."""
        state = self.reader.state(bag_id)
        arrays = None if state is None else self.copies.find(state)
        return self.reader.coords(bag_id) if arrays is None else arrays.get("coords")


def _arrays_of(bag: Bag) -> Iterator[tuple[str, Tensor]]:
    """The parts of a bag; a slash before its name marks a stream."""
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
