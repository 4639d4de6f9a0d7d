"""torchmil: `features/ labels/ inst_labels/ coords/<bag>`, each `.npy` or `.h5`."""

from pathlib import Path

from milforge.data.features.readers.layouts.layout import (
    Layout,
    SideFiles,
    StreamFiles,
    array_files,
    plain_streams,
)

FEATURES = "features"
LABELS_KEYS = ("labels", "label")


def _matches(root: Path) -> bool:
    return (root / FEATURES).is_dir()


def _find(root: Path) -> dict[str, StreamFiles]:
    """Several encoders share the coords; `root` may be a folder of features within theirs."""
    inside = not _matches(root)
    features = root if inside else root / FEATURES
    coords = _files_in((root.parent if inside else root) / "coords")
    found = {}
    for bag_id, files in plain_streams(features).items():
        first, twins = _first(coords.get(bag_id, []))
        found[bag_id] = StreamFiles(files.features, first, (*files.twins, *twins))
    return found


def _find_sides(root: Path) -> dict[str, SideFiles]:
    labels, instance_labels = _files_in(root / "labels"), _files_in(root / "inst_labels")
    found = {}
    for bag_id in labels.keys() | instance_labels.keys():
        (label, twins), (of_instances, others) = (
            _first(files.get(bag_id, [])) for files in (labels, instance_labels)
        )
        found[bag_id] = SideFiles(label, of_instances, (*twins, *others))
    return found


def _files_in(folder: Path) -> dict[str, list[Path]]:
    return array_files(folder) if folder.is_dir() else {}


def _first(files: list[Path]) -> tuple[Path | None, list[Path]]:
    """The first file, and its twins."""
    return (files[0], files[1:]) if files else (None, [])


TORCHMIL = Layout(
    name="torchmil",
    looks_for="features/, and beside it labels/, inst_labels/ and coords/",
    features_keys=(FEATURES,),
    unit=None,
    matches=_matches,
    find=_find,
    find_sides=_find_sides,
)
