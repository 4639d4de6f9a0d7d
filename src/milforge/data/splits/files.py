"""Splits on disk, as CLAM and torchmil write them."""

import csv
from io import StringIO
from itertools import zip_longest
from pathlib import Path

from milforge.data.dataset import SPLITS
from milforge.data.splits.draw import Split, twice
from milforge.processes.files import atomic_path

CALIBRATION = "calibration"  # a column that may be there besides
_TORCHMIL = ("bag_name", "split")
_BOOLS = {"True": True, "False": False}


def read_splits(path: str | Path, fold: int | None = None) -> Split:
    """Reads a split file.

    Args:
        path: a CSV file, or a folder with `splits_0.csv`, `splits_1.csv` and so on (CLAM; where
            there is none, `splits_0_bool.csv`) or one `splits.csv` (torchmil). The form is found
            by the header: columns `train,val,test`, each a list of bag ids, or of True and False
            for the bag that the first column names; or `bag_name,split`, the latter one of train,
            val and test. A column, or part, `calibration` may be there besides. Other columns are
            passed over. Commas, semicolons or tabs divide cells.
        fold: which file of the folder; None: `splits.csv`.

    Returns:
        The split as it stands in the file; `check_split` checks whether it fits the data.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where the file is in neither form, or has a column twice.
    """
    file = _find(Path(path), fold)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            text = lines.read()
        mark = max(",;\t", key=text.lstrip().partition("\n")[0].count)
        cells = csv.reader(StringIO(text, newline=""), delimiter=mark, strict=True)
        header, *rows = [row for row in cells if any(row)] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: expected a CSV file in UTF-8, got another ({error})") from error
    header = [name.strip() for name in header]
    parts = (*SPLITS, CALIBRATION, *_TORCHMIL)
    if repeated := [name for name in twice(header) if name in parts]:
        raise ValueError(f"{file}: expected one column {repeated[0]}, got several: remove one")
    if set(SPLITS) <= set(header):
        return _from_columns(file, header, rows)
    if set(_TORCHMIL) <= set(header):
        return _from_names(file, header, rows)
    raise ValueError(
        f"{file}: expected the columns {', '.join(SPLITS)}, or {', '.join(_TORCHMIL)}, got "
        f"{', '.join(header) or 'an empty file'}"
    )


def write_split(split: Split, path: str | Path) -> None:
    """Writes a split as CLAM does, with columns `train,val,test` after a numbering one.

    Bags held back to calibrate have a column `calibration`.

    Raises:
        ValueError: for an id that is empty, for which a file of this form has no place.
    """
    parts = {name: part for name, part in vars(split).items() if part or name in SPLITS}
    if any(bag == "" for part in parts.values() for bag in part):
        raise ValueError(f"{path}: expected bag ids of at least one character, got an empty one")
    with (
        atomic_path(Path(path)) as partial,
        partial.open("w", newline="", encoding="utf-8") as lines,
    ):
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["", *parts])
        for number, row in enumerate(zip_longest(*parts.values(), fillvalue="")):
            writer.writerow([number, *row])


def _find(path: Path, fold: int | None) -> Path:
    if path.is_file() and fold is not None:
        raise ValueError(
            f"{path}: expected a folder of split files with fold={fold}, got a file: name its "
            "folder, or leave out the fold"
        )
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a split file or a folder of them, found none")
    stem = "splits" if fold is None else f"splits_{fold}"
    for file in (path / f"{stem}.csv", path / f"{stem}_bool.csv"):
        if file.is_file():
            return file
    there = sorted(file.name for file in path.glob("splits*.csv"))
    raise FileNotFoundError(
        f"{path}: expected {stem}.csv there, found {', '.join(there[:10]) or 'no split file'}: "
        "give split.fold, or another folder"
    )


def _from_columns(file: Path, header: list[str], rows: list[list[str]]) -> Split:
    """Lists of ids, or of True and False."""
    names = (*SPLITS, *({CALIBRATION} & set(header)))
    columns = {
        name: [row[header.index(name)] if header.index(name) < len(row) else "" for row in rows]
        for name in names
    }
    cells = {cell.strip() for column in columns.values() for cell in column}
    if not cells or not cells <= set(_BOOLS):
        return Split(*(tuple(cell for cell in columns[name] if cell) for name in names))
    if header[0] in SPLITS:
        raise ValueError(
            f"{file}: expected the bag ids in a first column before True and False, got the "
            f"columns {', '.join(header)}"
        )
    return Split(
        *(
            tuple(
                row[0]
                for row, cell in zip(rows, columns[name], strict=True)
                if _BOOLS[cell.strip()]
            )
            for name in names
        )
    )


def _from_names(file: Path, header: list[str], rows: list[list[str]]) -> Split:
    """A bag a row, and its part."""
    parts: dict[str, list[str]] = {name: [] for name in (*SPLITS, CALIBRATION)}
    bag_column, part_column = (header.index(name) for name in _TORCHMIL)
    for row in rows:
        if len(row) != len(header) or row[part_column].strip() not in parts:
            raise ValueError(
                f"{file}: expected in each row a bag and one of {', '.join(parts)}, got "
                f"{', '.join(row)!r}"
            )
        parts[row[part_column].strip()].append(row[bag_column])
    return Split(*map(tuple, parts.values()))
