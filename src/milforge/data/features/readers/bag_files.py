"""The files of the bags of a folder: which there are, and the arrays in them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from milforge.data.bag import ONE_STREAM
from milforge.data.faults import BagError, Fault, bag_error
from milforge.data.features.readers.arrays.array_file import (
    OWN_FOLDER,
    StoredArray,
    find_array,
    open_arrays,
)
from milforge.data.features.readers.arrays.places import stamp_of
from milforge.data.features.readers.bag_check import OpenBag, check_bag
from milforge.data.features.readers.bag_reader import Unit
from milforge.data.features.readers.layouts.layout import SideFiles, StreamFiles


@dataclass(frozen=True)
class Stream:
    """Where the features of one encoder lie.

    Args:
        folder: the folder, for messages.
        files: the files by bag.
        features_keys: where the features stand in a file, the first that there is.
        unit: of the coords, where the files do not say it.
    """

    folder: Path
    files: Mapping[str, StreamFiles]
    features_keys: tuple[str, ...]
    unit: Unit | None


@dataclass(frozen=True)
class BagFiles:
    """Which files the bags of a folder have, and where their arrays stand in them.

    Args:
        root: the folder.
        layout: name of the layout.
        sources: the streams by name.
        sides: the files that belong to no stream, by bag.
        coords_key: where the coords stand in a file; None: they are not read.
        inst_label_key: where the instance labels stand in a file.
    """

    root: Path
    layout: str
    sources: Mapping[str, Stream]
    sides: Mapping[str, SideFiles]
    coords_key: str | None
    inst_label_key: str

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The names of the bags, sorted."""
        return tuple(sorted(set().union(*(source.files for source in self.sources.values()))))

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the feature sets."""
        return tuple(self.sources)

    def files(self, bag_id: str) -> dict[str, Path]:
        """The file of each stream of a bag that has one."""
        found = ((name, source.files.get(bag_id)) for name, source in self.sources.items())
        return {name: files.features for name, files in found if files is not None}

    def all_files(self, bag_id: str) -> list[Path]:
        """All that is read of a bag; nothing where it has no file, or several in one place."""
        paths: list[Path] = []
        for source in self.sources.values():
            files = source.files.get(bag_id)
            if files is None or files.twins:
                return []
            paths += [files.features, *([files.coords] if files.coords else [])]
        side = self.sides.get(bag_id, SideFiles())
        if side.twins:
            return []
        return paths + ([side.instance_labels] if side.instance_labels else [])

    @contextmanager
    def opened(self, bag_id: str) -> Iterator[OpenBag]:
        """The arrays of a bag, checked; its files are closed on leaving.

        Raises:
            BagError: lists all that is wrong with them.
        """
        with ExitStack() as stack:
            yield self._open(bag_id, stack)

    def _open(self, bag_id: str, stack: ExitStack) -> OpenBag:
        opened = OpenBag(bag_id)
        faults: list[Fault] = []
        side = self.sides.get(bag_id, SideFiles())
        for name, source in self.sources.items():
            try:
                self._open_stream(name, source, opened, stack)
            except BagError as error:
                faults += error.faults
        if side.twins:
            faults += ambiguous(bag_id, (side.labels, side.instance_labels), side.twins).faults
        elif side.instance_labels is not None:
            try:
                arrays = _open_file(side.instance_labels, opened, stack)
                keys = (self.inst_label_key, "inst_labels")
                # These count, whatever stands beside the features.
                labels = find_array(arrays, keys, side.instance_labels, OWN_FOLDER)
                opened.instance_labels = [labels]
            except BagError as error:
                faults += error.faults
        if faults:
            raise bag_error(replace(fault, bag_id=bag_id) for fault in faults)
        check_bag(opened)
        return opened

    def _open_stream(self, name: str, source: Stream, opened: OpenBag, stack: ExitStack) -> None:
        files = source.files.get(opened.bag_id)
        if files is None:
            where = "" if name == ONE_STREAM else f" in stream {name}"
            message = f"expected a file of bag {opened.bag_id!r}{where}, found none"
            remedy = "write it, or remove the bag from the labels and the other streams"
            raise bag_error([Fault("", source.folder, message, remedy)])
        if files.twins:
            raise ambiguous(opened.bag_id, (files.coords, files.features), files.twins)
        arrays = _open_file(files.features, opened, stack)
        found = find_array(arrays, source.features_keys, files.features, "data.features_key")
        opened.features[name] = found.without_single_axis()
        self._add_instance_labels(arrays, opened)
        if files.coords is not None:
            stored = _open_file(files.coords, opened, stack)
            option = OWN_FOLDER if self.layout == "torchmil" else "data.coords_key"
            if self.coords_key is not None:
                coords = find_array(stored, (self.coords_key,), files.coords, option)
                opened.coords[name] = coords.without_single_axis()
            self._add_instance_labels(stored, opened)
        elif self.coords_key is not None and self.coords_key in arrays:
            opened.coords[name] = arrays[self.coords_key].without_single_axis()
        opened.units[name] = source.unit

    def _add_instance_labels(self, arrays: Mapping[str, StoredArray], opened: OpenBag) -> None:
        """Those of a file, which several streams may share."""
        if self.inst_label_key in arrays:
            found = arrays[self.inst_label_key]
            if all(each.path != found.path for each in opened.instance_labels):
                opened.instance_labels.append(found)


def ambiguous(bag_id: str, chosen: Sequence[Path | None], twins: Sequence[Path]) -> BagError:
    """The error of a bag that has several files in one place.

    Args:
        bag_id: name of the bag.
        chosen: its other files; the error is that of the one beside which a twin lies.
        twins: at least one.
    """
    known = [path for path in chosen if path is not None]
    path = next((each for each in known if each.parent == twins[0].parent), known[-1])
    others = ", ".join(map(str, twins))
    message = f"expected one file of bag {bag_id!r}, found {others} too"
    return bag_error([Fault(bag_id, path, message, "remove all but one")])


def _open_file(path: Path, opened: OpenBag, stack: ExitStack) -> Mapping[str, StoredArray]:
    """The arrays of a file, which is open as long as the bag."""
    with suppress(OSError):  # the next line says what is wrong with it
        opened.stamps.setdefault(path, stamp_of(path))
    return stack.enter_context(open_arrays(path))
