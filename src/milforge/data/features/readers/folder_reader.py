"""Bags of a folder in which each bag has files of its own."""

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.content_cache import content_key
from milforge.data.faults import BagError, Fault, bag_error
from milforge.data.features.readers.arrays.array_file import (
    OWN_FOLDER,
    as_features,
    find_array,
    open_arrays,
)
from milforge.data.features.readers.arrays.places import Places, has_settled, stamp_of
from milforge.data.features.readers.bag_check import header_of
from milforge.data.features.readers.bag_files import BagFiles, ambiguous
from milforge.data.features.readers.bag_places import BagPlaces, Found
from milforge.data.features.readers.bag_reader import (
    BagHeader,
    Out,
    Rows,
    into,
)
from milforge.data.features.readers.instance_labels import InstanceLabel, map_instance_labels
from milforge.data.features.readers.layouts.layout import SideFiles
from milforge.data.features.readers.layouts.torchmil import LABELS_KEYS
from milforge.data.features.readers.stored_coords import agreeing, read_coords

_FEW = 64  # rows that the library reads sooner than it says where all rows lie


@dataclass(frozen=True)
class FolderReader(BagFiles):
    """A `BagReader` of files; `open_reader` makes it.

    Args:
        root, layout, sources, sides, coords_key, inst_label_key: see `BagFiles`.
        positive: the instance labels that mean positive; None where they are 0, 1 and -1.
    """

    positive: tuple[InstanceLabel, ...] | None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """None: files of arrays do not name the features."""
        return ()

    @property
    def has_labels(self) -> bool:
        """Whether any bag has a file with its label."""
        return any(side.labels is not None for side in self.sides.values())

    def state(self, bag_id: str) -> str | None:
        """See `BagReader.state`."""
        stamps = []
        try:
            for path in self.all_files(bag_id):
                stamp = stamp_of(path)
                if not has_settled(stamp):
                    return None
                # Without the device, whose number differs between machines that share a disk.
                stamps.append((os.path.abspath(path), *stamp[1:]))
        except OSError:
            return None
        return content_key(bag_id, self._options, stamps) if stamps else None

    def header(self, bag_id: str, *, soon: int = 0) -> BagHeader:
        """What the files say of a bag before its features are read; see `BagReader.header`.

        Raises:
            BagError: where the bag is faulty; it holds all faults that can be seen so.
        """
        with self.opened(bag_id) as opened:
            header = header_of(opened)
            if header.nbytes <= soon:
                self._places.look(opened)
            return header

    def read(
        self, bag_id: str, rows: Rows | None = None, *, out: Out | None = None, coords: bool = True
    ) -> Bag:
        """The bag, or the instances of those numbers, which must ascend; see `BagReader.read`.

        Where the values of all that is read lie in the files as they are, they are read from there;
        else the library of the file does it.

        Raises:
            BagError: where the bag is faulty.
        """
        parts = ("features", "instance_labels", *(("coords",) if coords else ()))
        few = rows is not None and len(rows) <= _FEW
        places = None if few else self._places.of(bag_id, parts)
        if places is not None:
            bag = self._read_places(bag_id, places, rows, out)
            if bag is not None:
                return bag
            self._places.forget(bag_id)
        with self.opened(bag_id) as opened:
            x = {
                name: into(out, name, array.read_features(rows))
                for name, array in opened.features.items()
            }
            labels = [(each.path, each.read_values(rows)) for each in opened.instance_labels]
            return Bag(
                x=x if len(x) > 1 else next(iter(x.values())),
                coords=read_coords(opened, rows) if coords else None,
                y_inst=self._instance_labels(bag_id, labels),
                bag_id=bag_id,
            )

    def content(self, bag_id: str) -> Hashable | None:
        """See `BagReader.content`."""
        return self._places.content(bag_id)

    def coords(self, bag_id: str) -> Tensor | None:
        """`(N, 2)` or `(N, 3)` float32 coords alone, None where the bag has none.

        Raises:
            BagError: where the bag is faulty.
        """
        places = self._places.of(bag_id, ["coords"])
        if places is not None:
            read = [(each.path, _read(each, None)) for each in places["coords"]]
            if all(each is not None for _, each in read):
                return agreeing(bag_id, [(path, each) for path, each in read if each is not None])
            self._places.forget(bag_id)
        with self.opened(bag_id) as opened:
            return read_coords(opened, None)

    def label(self, bag_id: str) -> str | tuple[int, ...] | None:
        """The stored label: a class, or 0 and 1 for each class; None where there is none.

        Raises:
            BagError: where the file is faulty.
        """
        side = self.sides.get(bag_id, SideFiles())
        path = side.labels
        if path is None:
            return None
        if side.twins:
            raise ambiguous(bag_id, (path, side.instance_labels), side.twins)
        with open_arrays(path) as arrays:
            values = find_array(arrays, LABELS_KEYS, path, OWN_FOLDER).read_values().reshape(-1)
        if len(values) == 1:
            return _class_name(values[0])
        if not len(values) or not np.isin(values, (0, 1)).all():
            raise bag_error(
                [
                    Fault(
                        bag_id,
                        path,
                        f"expected a label, or 0 and 1 for each class, got {values.tolist()[:9]}",
                        "write the label again",
                    )
                ]
            )
        return tuple(int(value) for value in values)

    def group(self, bag_id: str) -> str | None:
        """None: no layout of files stores patients."""
        return None

    @cached_property
    def _places(self) -> BagPlaces:
        return BagPlaces(self.opened)

    @cached_property
    def _options(self) -> str:
        keys = [(name, each.features_keys, each.unit) for name, each in self.sources.items()]
        return repr((self.layout, keys, self.coords_key, self.inst_label_key, self.positive))

    def _read_places(
        self, bag_id: str, places: Found, rows: Rows | None, out: Out | None
    ) -> Bag | None:
        """The bag from its places in the files; None where those have changed."""
        x: dict[str, Tensor] = {}
        for name, place in zip(self.sources, places["features"], strict=True):
            features = _read_features(place, rows, out, name)
            if features is None:
                return None
            x[name] = features
        coords = [(each.path, _read(each, rows)) for each in places.get("coords", ())]
        labels = [(each.path, _read(each, rows)) for each in places["instance_labels"]]
        if any(each is None for _, each in (*coords, *labels)):
            return None
        known = [(path, each) for path, each in coords if each is not None]
        of_instances = [(path, each.numpy()) for path, each in labels if each is not None]
        return Bag(
            x=x if len(x) > 1 else next(iter(x.values())),
            coords=agreeing(bag_id, known),
            y_inst=self._instance_labels(bag_id, of_instances),
            bag_id=bag_id,
        )

    def _instance_labels(
        self, bag_id: str, stored: Sequence[tuple[Path, NDArray[Any]]]
    ) -> Tensor | None:
        """Those that files have, which must be the same in all of them; None where none has any.

        Raises:
            BagError: where they are not, or are not understood.
        """
        try:
            found = [
                (path, map_instance_labels(each, self.positive, path)) for path, each in stored
            ]
        except BagError as error:
            raise bag_error(replace(f, bag_id=bag_id) for f in error.faults) from error
        if not found:
            return None
        (path, labels), *others = found
        for other, same in others:
            if not torch.equal(labels, same):
                row = int((labels != same).nonzero()[0])
                message = f"expected the instance labels of {path}, got others from row {row} on"
                remedy = "write the same labels beside all streams"
                raise bag_error([Fault(bag_id, other, message, remedy)])
        return labels


def _read(place: Places, rows: Rows | None) -> Tensor | None:
    """The values as they are stored; None where the file has changed."""
    shape = place.shape if rows is None else (len(rows), *place.shape[1:])
    values = np.empty(shape, place.dtype)
    return torch.from_numpy(values) if place.read(values, rows) else None


def _read_features(place: Places, rows: Rows | None, out: Out | None, name: str) -> Tensor | None:
    """The same as features: see `StoredArray.read_features`."""
    given = None if out is None else out.get(name)
    shape = place.shape if rows is None else (len(rows), *place.shape[1:])
    if given is not None and tuple(given.shape) == shape and given.numpy().dtype == place.dtype:
        return given if place.read(given.numpy(), rows) else None
    values = np.empty(shape, place.dtype)
    return into(out, name, as_features(values)) if place.read(values, rows) else None


def _class_name(value: Any) -> str:
    """Numbers that are whole are written so: 1.0 and 1 are one class."""
    if isinstance(value, np.bool_):
        return str(int(value))
    if isinstance(value, np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
