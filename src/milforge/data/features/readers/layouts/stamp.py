"""STAMP: `<FILENAME>.h5` with `feats` and `coords` in micrometres, in folders as the slides lay."""

from itertools import islice
from pathlib import Path

from milforge.data.faults import BagError
from milforge.data.features.readers.arrays.array_file import HDF5_SUFFIXES, open_arrays
from milforge.data.features.readers.layouts.layout import Layout, StreamFiles, bag_id_of

_KEY = "feats"
_TRIED = 5  # files opened to see whose they are; the first may be damaged


def _matches(root: Path) -> bool:
    files = sorted(islice(root.glob("*.h5"), 1000)) or sorted(islice(root.glob("*/*.h5"), 1000))
    for path in files[:_TRIED]:
        try:
            with open_arrays(path) as arrays:
                return _KEY in arrays
        except BagError:
            continue
    return False


def _find(root: Path) -> dict[str, StreamFiles]:
    """A bag in a folder is called `folder/slide`, as in the column FILENAME."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.*")):
        name = path.relative_to(root)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix.lower() in HDF5_SUFFIXES and not hidden:
            found.setdefault(bag_id_of(name.as_posix()), []).append(path)
    return {
        bag_id: StreamFiles(files[0], twins=tuple(files[1:])) for bag_id, files in found.items()
    }


STAMP = Layout(
    name="stamp",
    looks_for="*.h5 with feats",
    features_keys=(_KEY,),
    unit="um",
    matches=_matches,
    find=_find,
)
