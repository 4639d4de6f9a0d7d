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
    coords = _first_of((root.parent if inside else root) / "coords")
    return {
        bag_id: StreamFiles(files.features, coords.get(bag_id), files.twins)
        for bag_id, files in plain_streams(features).items()
    }


def _find_sides(root: Path) -> dict[str, SideFiles]:
    labels, instance_labels = _first_of(root / "labels"), _first_of(root / "inst_labels")
    return {
        bag_id: SideFiles(labels.get(bag_id), instance_labels.get(bag_id))
        for bag_id in labels.keys() | instance_labels.keys()
    }


def _first_of(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {bag_id: files[0] for bag_id, files in array_files(folder).items()}


TORCHMIL = Layout(
    name="torchmil",
    looks_for="features/, and beside it labels/, inst_labels/ and coords/",
    features_keys=(FEATURES,),
    unit=None,
    matches=_matches,
    find=_find,
    find_sides=_find_sides,
)
