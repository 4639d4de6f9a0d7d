"""TRIDENT: `features_<encoder>/<slide>.h5`, a folder for each encoder."""

from pathlib import Path

from milforge.data.features.readers.layouts.layout import Layout, plain_streams

PREFIX = "features_"


def encoders(root: Path) -> dict[str, Path]:
    """The folders of features by the names of their encoders.

    TRIDENT puts them into a folder named by magnification and patch size; `root` may be the folder
    above it, where that has one such folder.

    Raises:
        ValueError: where it has several.
    """
    found = _in(root)
    if found:
        return found
    below = {folder: _in(folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
    filled = [folder for folder in below if below[folder]]
    if len(filled) > 1:
        raise ValueError(
            f"{root}: expected one folder with {PREFIX}<encoder>/, found "
            f"{', '.join(folder.name for folder in filled)}: give one of them as data.root"
        )
    return below[filled[0]] if filled else {}


def _in(root: Path) -> dict[str, Path]:
    return {
        folder.name.removeprefix(PREFIX): folder
        for folder in sorted(root.glob(f"{PREFIX}*"))
        if folder.is_dir()
    }


def _matches(root: Path) -> bool:
    return bool(encoders(root))


TRIDENT = Layout(
    name="trident",
    looks_for=f"{PREFIX}<encoder>/",
    features_keys=("features",),
    unit="px",
    matches=_matches,
    find=plain_streams,
)
