"""Whether the arrays of a bag fit each other; only their shapes are looked at."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from milforge.data.bag import ONE_STREAM
from milforge.data.faults import Fault, bag_error
from milforge.data.features.readers.arrays.array_file import StoredArray
from milforge.data.features.readers.arrays.places import Stamp
from milforge.data.features.readers.bag_reader import BagHeader, Unit

_NUMBERS = ("float", "bfloat", "int", "uint")
_AGAIN = "write the bag again, or remove the file"
_WITHOUT = "write the bag again, or read all without coords by data.coords_key=null"


@dataclass
class OpenBag:
    """The arrays of a bag in open files.

    Args:
        bag_id: name of the bag.
        features: the features of each stream.
        coords: the coords beside the features of each stream that has them.
        units: the unit of the coords of each stream, where the file does not say it.
        instance_labels: the instance labels, of each file that has any.
        stamps: of the files, taken before they were opened.
    """

    bag_id: str
    features: dict[str, StoredArray] = field(default_factory=dict)
    coords: dict[str, StoredArray] = field(default_factory=dict)
    units: dict[str, Unit | None] = field(default_factory=dict)
    instance_labels: list[StoredArray] = field(default_factory=list)
    stamps: dict[Path, Stamp] = field(default_factory=dict)

    def distinct_coords(self) -> list[StoredArray]:
        """The coords of all streams, without those that several share."""
        return list({(each.path, each.key): each for each in self.coords.values()}.values())


def check_bag(opened: OpenBag) -> None:
    """Checks the arrays of a bag by their shapes.

    Raises:
        BagError: where they do not fit each other, are no numbers, or hold no instance.
    """
    faults = [
        Fault(opened.bag_id, array.path, message, remedy)
        for array, message, remedy in _faults(opened)
    ]
    if faults:
        raise bag_error(faults)


def header_of(opened: OpenBag) -> BagHeader:
    """What is known of a bag that was checked before its features are read."""
    name, first = next(iter(opened.features.items()))
    unit, tile_size, axes = None, None, None
    if opened.coords:
        name, coords = next(iter(opened.coords.items()))
        unit, tile_size = coords_unit(coords.find_attribute, opened.units[name])
        axes = coords.shape[1]
    return BagHeader(
        bag_id=opened.bag_id,
        instances=first.shape[0],
        widths={name: array.shape[1] for name, array in opened.features.items()},
        dtypes={name: array.dtype for name, array in opened.features.items()},
        files={name: array.path for name, array in opened.features.items()},
        coords_axes=axes,
        coords_unit=unit,
        tile_size=tile_size,
        has_instance_labels=bool(opened.instance_labels),
    )


def _faults(opened: OpenBag) -> Iterator[tuple[StoredArray, str, str]]:
    """Each array at fault, what is wrong with it, and the remedy."""
    whole = {}
    for name, array in opened.features.items():
        what = f"{array.key or 'features'}"
        if len(array.shape) != 2 or not array.dtype.startswith(_NUMBERS):
            got = f"shape {array.shape} of {array.dtype}"
            yield array, f"expected {what} of shape (N, D), numbers, got {got}", _AGAIN
        elif 0 in array.shape:
            yield array, f"expected at least one instance, got {what} of {array.shape}", _AGAIN
        else:
            whole[name] = array
    if not whole:
        return
    name, first = next(iter(whole.items()))
    for other, array in whole.items():
        if array.shape[0] != first.shape[0]:
            yield (
                array,
                f"expected {first.shape[0]} instances as in {first.path} (stream {name}), got "
                f"{array.shape[0]} (stream {other})",
                "extract both streams from the same patches",
            )
    count = first.shape[0]
    of = f"of {first.path}" if len(opened.features) > 1 or name != ONE_STREAM else "of the features"
    for array in {(each.path, each.key): each for each in opened.coords.values()}.values():
        if len(array.shape) != 2 or array.shape[1] not in (2, 3):
            yield array, f"expected coords of shape (N, 2) or (N, 3), got {array.shape}", _WITHOUT
        elif not array.dtype.startswith(_NUMBERS):
            yield array, f"expected coords that are numbers, got {array.dtype}", _WITHOUT
        elif array.shape[0] != count:
            message = f"expected {count} coords, one for each instance {of}, got {array.shape[0]}"
            yield array, message, _WITHOUT
    for labels in opened.instance_labels:
        if labels.shape not in ((count,), (count, 1)):
            message = f"expected {count} instance labels, one for each instance {of}, got shape "
            yield labels, message + str(labels.shape), "write the instance labels again"


def coords_unit(
    find: Callable[[str], Any], otherwise: Unit | None
) -> tuple[Unit | None, float | None]:
    """Unit of coords and the side of a tile in it, as TRIDENT and STAMP write them down.

    Args:
        find: gives an attribute of the coords or their file by its name, None where there is none.
        otherwise: the unit where no attribute tells it.

    Example:
        >>> coords_unit({"patch_size": 256, "patch_size_level0": 512}.get, None)
        ('px', 512.0)
        >>> coords_unit({"tile_size_um": 256.0, "tile_size_px": 224}.get, None)
        ('um', 256.0)
        >>> coords_unit({"patch_size_level0": 0}.get, None)  # which is no size
        ('px', None)
        >>> coords_unit({}.get, "px")
        ('px', None)
    """
    sizes: tuple[tuple[str, Unit], ...] = (("patch_size_level0", "px"), ("tile_size_um", "um"))
    for name, unit in sizes:
        size = find(name)
        if size is not None:
            return unit, _number(size)
    unit = find("unit")
    for known in get_args(Unit):
        if unit in (known, known.encode()):
            return known, _number(find("tile_size"))
    return otherwise, None


def _number(value: Any) -> float | None:
    """A size, which may be an array of one number; None where it is none, such as 0 or NaN."""
    try:
        size = float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return size if 0 < size < math.inf else None
