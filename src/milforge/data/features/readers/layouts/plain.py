"""A folder in which each file is a bag, whoever wrote it."""

from pathlib import Path

from milforge.data.features.readers.arrays.array_file import ARRAY_SUFFIXES
from milforge.data.features.readers.layouts.layout import Layout, array_files, plain_streams


def _matches(root: Path) -> bool:
    return bool(array_files(root))


PLAIN = Layout(
    name="plain",
    looks_for=f"files {', '.join(ARRAY_SUFFIXES)} in the folder itself",
    features_keys=("features", "feats"),
    unit=None,
    matches=_matches,
    find=plain_streams,
)
