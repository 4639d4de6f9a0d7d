"""Finds out how a folder is laid out, and opens it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from milforge.data.bag import ONE_STREAM
from milforge.data.features.readers.bag_files import Stream
from milforge.data.features.readers.bag_reader import BagReader
from milforge.data.features.readers.folder_reader import FolderReader
from milforge.data.features.readers.instance_labels import InstanceLabel, as_values
from milforge.data.features.readers.layouts.clam import CLAM
from milforge.data.features.readers.layouts.plain import PLAIN
from milforge.data.features.readers.layouts.stamp import STAMP
from milforge.data.features.readers.layouts.torchmil import TORCHMIL
from milforge.data.features.readers.layouts.trident import TRIDENT, encoders
from milforge.data.features.readers.table import TableReader
from milforge.data.features.tables import TABLE_SUFFIXES

# In the order in which they are looked for: the last ones are the least particular.
_LAYOUTS = {layout.name: layout for layout in (CLAM, TRIDENT, TORCHMIL, STAMP, PLAIN)}
LAYOUTS = (*_LAYOUTS, TableReader.layout)


def detect_layout(root: str | Path) -> str:
    """Name of the layout of a folder, or of the one in it that has one; `table` for a file.

    Raises:
        FileNotFoundError: where there is no such folder or file.
        ValueError: where it is of no layout; the message lists what was looked for and found.
    """
    root = _folder_of_bags(_existing(Path(root).expanduser()))
    if root.is_file():
        return TableReader.layout
    name = _matching(root)
    if name is not None:
        return name
    if len(_tables(root)) == 1:
        return TableReader.layout
    looked_for = "; ".join(f"{name} ({layout.looks_for})" for name, layout in _LAYOUTS.items())
    raise ValueError(
        f"{root}: expected one of the layouts {looked_for}; table (one file "
        f"{', '.join(TABLE_SUFFIXES)}), found {_contents(root)}: give the folder of the features "
        "as data.root, or name what it is by data.layout"
    )


def open_reader(
    root: str | Path,
    layout: str | None = None,
    *,
    streams: Mapping[str, str] | Sequence[str] | None = None,
    features_key: str | None = None,
    coords_key: str | None = "coords",
    inst_label_key: str = "inst_label",
    positive_instance_label: InstanceLabel | Sequence[InstanceLabel] | None = None,
    id_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    feature_columns: Sequence[str] | None = None,
    exclude_columns: Sequence[str] = (),
) -> BagReader:
    """Opens a folder of bags, or a table; of a folder only names of files are looked at.

    A folder of no layout that holds one folder of a layout, such as `h5/` beside `labels.csv`, is
    read as that one.

    Args:
        root: the folder, which holds the files themselves or the folders of the layout; or a table.
        layout: clam, trident, torchmil, stamp, plain or table; None finds out.
        streams: several feature sets of the same instances: the folder of each by the name of the
            stream, or for TRIDENT a list of encoders. None: all encoders of TRIDENT, else one.
            With one stream `x` of a bag is a tensor, with more a mapping.
        features_key: where the features stand in a file; None: as the layout has it.
        coords_key: where the coords stand in a file; None: they are not read.
        inst_label_key: where the instance labels stand in a file, or their column in a table.
        positive_instance_label: the instance labels that mean positive, one or several; all others
            but -1 (unknown) are negative. None where they are 0, 1 and -1.
        id_column: column of the bag, where a table holds the instances; see `TableReader`.
        label_column: column of the bag label in such a table; an empty list: there is none.
        group_column: column of the patient in such a table.
        feature_columns: columns of the features in such a table, in order; None: see
            `TableReader`.
        exclude_columns: columns of such a table that are no features.

    Raises:
        FileNotFoundError: where there is no such folder, file or stream.
        ValueError: where the layout is unknown, the folder holds no bag, columns are named and
            there is no table, or there is a table and what is named belongs to folders.
    """
    root = _existing(Path(root).expanduser())
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"expected data.layout to be one of {LAYOUTS}, got {layout!r}")
    positive = as_values(positive_instance_label)
    if layout is None and streams and root.is_dir():
        # The folders of streams say what they are, and have names that no layout knows.
        side_folders = any((root / name).is_dir() for name in ("coords", "labels", "inst_labels"))
        layout = TORCHMIL.name if side_folders else None
    elif layout is None:
        root = _folder_of_bags(root)
        layout = detect_layout(root)
    if layout == TableReader.layout or root.is_file():
        _check_of_table(root, layout, streams, features_key)
        return TableReader(
            _only_table(root),
            id_column=id_column,
            label_column=label_column,
            group_column=group_column,
            inst_label_key=inst_label_key,
            positive=positive,
            feature_columns=feature_columns,
            exclude_columns=exclude_columns,
        )
    if feature_columns is not None or exclude_columns:
        raise ValueError(
            f"{root}: expected a table of instances, whose columns data.feature_columns (which a "
            f"checkpoint of a table keeps) or data.exclude_columns names, got the layout {layout}: "
            "leave them out, or choose a table"
        )
    sources = {}
    for name, folder in _folders(root, layout, streams).items():
        folder = folder if layout else _folder_of_bags(folder)
        name_of_layout = layout or detect_layout(folder)
        if name_of_layout == TableReader.layout:
            raise ValueError(
                f"{folder}: expected a folder of features as the stream {name}, found a table: "
                "tables have one stream, so give one of them as data.root, without data.streams"
            )
        found = _LAYOUTS[name_of_layout]
        keys = found.features_keys if features_key is None else (features_key,)
        sources[name] = Stream(folder, found.find(folder), keys, found.unit)
    reader = FolderReader(
        root=root,
        layout=layout or found.name,
        sources=sources,
        sides=_LAYOUTS[layout].find_sides(root) if layout else {},
        coords_key=coords_key,
        inst_label_key=inst_label_key,
        positive=positive,
    )
    if not reader.ids:
        raise ValueError(
            f"{root}: expected bags laid out as {reader.layout} "
            f"({_LAYOUTS[reader.layout].looks_for}), found {_contents(root)}: check data.root and "
            "data.layout"
        )
    return reader


def _folders(
    root: Path, layout: str | None, streams: Mapping[str, str] | Sequence[str] | None
) -> dict[str, Path]:
    """The folder of each stream."""
    if not streams:
        return encoders(root) if layout == TRIDENT.name and encoders(root) else {ONE_STREAM: root}
    named = streams if isinstance(streams, Mapping) else {name: name for name in streams}
    folders = {}
    for name, value in named.items():
        folder: Path | None = root / Path(value).expanduser()
        if folder is not None and not folder.is_dir():
            folder = encoders(root).get(value)
        if folder is None:
            raise FileNotFoundError(
                f"{root / value}: expected the folder of stream {name}, found none beside "
                f"{_contents(root)}: name one of them in data.streams"
            )
        folders[name] = folder
    return folders


def _check_of_table(
    root: Path,
    layout: str | None,
    streams: Mapping[str, str] | Sequence[str] | None,
    features_key: str | None,
) -> None:
    """Refuses what a table has no use for: to read on would be to read something else."""
    others = {
        "layout": None if layout == TableReader.layout else layout,
        "streams": streams or None,
        "features_key": features_key,
    }
    for name, value in others.items():
        if value is not None:
            raise ValueError(
                f"{root}: expected a folder of features with data.{name}={value}, got a table of "
                f"instances: leave data.{name} out, or give the folder as data.root"
            )


def _matching(folder: Path) -> str | None:
    return next((name for name, layout in _LAYOUTS.items() if layout.matches(folder)), None)


def _folder_of_bags(root: Path) -> Path:
    """The folder itself, or the one in it that is of a layout where it is of none.

    Raises:
        ValueError: where there are several.
    """
    if root.is_file() or _matching(root) is not None:
        return root
    folders = sorted(
        each for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")
    )
    found = [each for each in folders if os.access(each, os.R_OK | os.X_OK) and _matching(each)]
    if len(found) > 1:
        raise ValueError(
            f"{root}: expected one folder of bags, found "
            f"{', '.join(f'{each.name}/' for each in found[:10])}: give one of them as data.root, "
            "or several as data.streams"
        )
    return found[0] if found else root


def _existing(root: Path) -> Path:
    if not root.exists():
        raise FileNotFoundError(
            f"{root}: expected a folder of bags or a table, found nothing: check data.root"
        )
    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        raise PermissionError(
            f"{root}: expected a folder that may be read, got no permission: let this user read it"
        )
    return root


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)


def _only_table(root: Path) -> Path:
    tables = [root] if root.is_file() else _tables(root)
    if len(tables) != 1:
        raise ValueError(
            f"{root}: expected one table of instances, found {len(tables)}: give the file as "
            "data.root"
        )
    return tables[0]


def _contents(folder: Path) -> str:
    """What lies in a folder, in few words."""
    entries = sorted(folder.iterdir())
    folders = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    suffixes = sorted(entry.suffix or "no suffix" for entry in entries if not entry.is_dir())
    counts = [f"{suffixes.count(each)} file(s) {each}" for each in dict.fromkeys(suffixes)]
    return ", ".join([*folders[:10], *counts[:10]]) or "nothing"
