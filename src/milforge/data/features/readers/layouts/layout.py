"""What a layout is, and how files are found by it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from milforge.data.features.readers.arrays.array_file import ARRAY_SUFFIXES
from milforge.data.features.readers.bag_reader import Unit

# What stands after the name of a bag in tables and file names.
_SUFFIXES = (
    *ARRAY_SUFFIXES,
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"),
    *(".czi", ".dcm", ".qptiff", ".ome", ".isyntax"),
)


@dataclass(frozen=True)
class StreamFiles:
    """The files of one stream of one bag.

    Args:
        features: the file of the features.
        coords: the file of the coords; None where they stand beside the features, if anywhere.
        twins: further files of the same name, which make it unclear which is meant.
    """

    features: Path
    coords: Path | None = None
    twins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SideFiles:
    """Files of a bag that belong to no stream.

    Args:
        labels: the file of the bag label.
        instance_labels: the file of the instance labels; None where they stand beside the
            features, if anywhere.
        twins: further files of the same name, which make it unclear which is meant.
    """

    labels: Path | None = None
    instance_labels: Path | None = None
    twins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How one tool lays its files out.

    Args:
        name: as it is given by config.
        looks_for: what a folder of this layout holds, in words.
        features_keys: where the features stand in a file, the first that there is.
        unit: of the coords, where the files do not say it.
        matches: whether a folder is laid out so.
        find: the files of one stream, by bag.
        find_sides: the files that belong to no stream, by bag.
    """

    name: str
    looks_for: str
    features_keys: tuple[str, ...]
    unit: Unit | None
    matches: Callable[[Path], bool]
    find: Callable[[Path], dict[str, StreamFiles]]
    find_sides: Callable[[Path], Mapping[str, SideFiles]] = field(default=lambda root: {})


def bag_id_of(name: str) -> str:
    """The name of a bag without the suffixes of slides and of files of features.

    Example:
        >>> bag_id_of("TCGA-A1.0012.svs"), bag_id_of("slide 7.svs.h5"), bag_id_of("b1.v2")
        ('TCGA-A1.0012', 'slide 7', 'b1.v2')
    """
    while True:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in _SUFFIXES:
            return name
        name = stem


def array_files(folder: Path) -> dict[str, list[Path]]:
    """The files of arrays in a folder by the names of their bags; hidden ones do not count."""
    found: dict[str, list[Path]] = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        if os.path.splitext(name)[1].lower() in ARRAY_SUFFIXES:
            found.setdefault(bag_id_of(name), []).append(folder / name)
    return found


def plain_streams(folder: Path) -> dict[str, StreamFiles]:
    """A folder in which each file is a bag."""
    return {
        bag_id: StreamFiles(files[0], twins=tuple(files[1:]))
        for bag_id, files in array_files(folder).items()
    }
