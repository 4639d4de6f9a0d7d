"""A copy of bags on a fast disk, as arrays that are mapped into memory."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from milforge.data.bag import ONE_STREAM, Bag
from milforge.data.content_cache import ContentCache, content_key
from milforge.data.features.readers import BagHeader, BagReader, Rows
from milforge.data.features.readers.bag_reader import Out, into
from milforge.data.features.readers.folder_reader import FolderReader


class CachedReader:
    """A `BagReader` that copies each bag of another reader to a folder when it is first read.

    Worth its space where the files lie on a network disk, or are slow to decode. A copy holds the
    arrays of a bag in the dtype they are read in, float16 included; from the second read on it is
    mapped into memory, and of some instances only these are read.

    A copy is named by the paths, sizes and times of the files of the bag and by all options of the
    reader, so it stands for no other bag; see `milforge.data.content_cache`.

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
        >>> reader.read("a").x.dtype, len(list(folder.iterdir()))
        (torch.float16, 1)
    """

    def __init__(self, reader: BagReader, folder: str | Path) -> None:
        if not isinstance(reader, FolderReader):
            raise ValueError(
                f"expected a folder of bags with data.cache, got the table {reader.root}, which is "
                "held in memory: leave data.cache=null"
            )
        self.reader = reader
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

    def header(self, bag_id: str) -> BagHeader:
        """See `BagReader.header`."""
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
        key = self._key(bag_id)
        if key is None:  # a file is missing, which the reader tells
            return self.reader.read(bag_id, rows, out=out, coords=coords)
        arrays = self.copies.get(key, lambda: dict(_arrays_of(self.reader.read(bag_id))))
        if not coords:
            arrays.pop("coords", None)
        taken = {name: _take(each, rows) for name, each in arrays.items()}
        for name, each in taken.items():
            stream = name.removeprefix("x/")
            if stream != name:
                taken[name] = into(out, stream or ONE_STREAM, each)
        return _bag_of(bag_id, taken)

    def content(self, bag_id: str) -> str | None:
        """The name of the copy."""
        return self._key(bag_id)

    def coords(self, bag_id: str) -> Tensor | None:
        """The coords alone, from the copy where there is one; see `BagReader.coords`."""
        key = self._key(bag_id)
        arrays = None if key is None else self.copies.find(key)
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
        return content_key("bag of floats", bag_id, options, files_now)


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
