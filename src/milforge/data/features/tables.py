"""Tables of labels and of instances: CSV, TSV, Parquet and UCI's `.data`."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from milforge.processes.system_errors import shortage

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".data")
GROUP_COLUMNS = ("case_id", "patient", "patient_id", "PATIENT", "group")
NAMELESS = ".data"  # UCI's tables have no line of names


def read_table(path: Path, is_text: Callable[[str], bool]) -> Any:
    """Reads a table.

    Args:
        path: the file; its suffix says what it is. A CSV may have commas, semicolons or tabs.
        is_text: whether a column is kept as it is written, by its name: `007` is no number there.
            The columns of a `.data` file are called `f0`, `f1` and so on.

    Returns:
        A `pyarrow.Table`.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no table, or a column stands in it twice.
    """
    import pyarrow as pa

    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(
            f"{path}: expected a table {', '.join(TABLE_SUFFIXES)}, got "
            f"{path.suffix or 'a file without suffix'}: save it as CSV"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a table, found none: check the path")
    try:
        table = _read(path, is_text)
    except PermissionError:
        raise ValueError(
            f"{path}: expected a table that may be read, got no permission: let this user read it"
        ) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        lacking = shortage(error)
        if lacking is not None:
            raise ValueError(
                f"{path}: expected a table that can be read, got {lacking[0]}: {lacking[1]}"
            ) from error
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected a table, got {reason}: mend that line, or save the table as UTF-8 "
            "CSV again"
        ) from error
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{path}: expected columns of different names, got {twice[0]!r} twice: remove one"
        )
    return table


def _read(path: Path, is_text: Callable[[str], bool]) -> Any:
    import pyarrow as pa
    from pyarrow import csv, parquet

    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return parquet.read_table(path)
    with path.open("rb") as file:
        first = file.readline()
    if not first.strip():
        raise pa.ArrowInvalid("an empty file")
    counts = {mark: first.count(mark.encode()) for mark in ",;\t"}
    parse = csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else max(counts, key=counts.get))  # type: ignore[arg-type]
    options = csv.ReadOptions(autogenerate_column_names=suffix == NAMELESS)
    with csv.open_csv(path, read_options=options, parse_options=parse) as start:
        names = start.schema.names
    texts = {name: pa.string() for name in names if is_text(name)}
    convert = csv.ConvertOptions(column_types=texts, strings_can_be_null=False)
    return csv.read_csv(path, read_options=options, parse_options=parse, convert_options=convert)


def as_texts(column: Any) -> list[str]:
    """The values of a column as text, stripped; nothing and NaN are empty, 1.0 is `1`."""
    return [_as_text(value) for value in column.to_pylist()]


def _as_text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    text = str(value).strip()
    # Tables of whole numbers in which one is missing are written as 0.0 and 1.0.
    whole, point, rest = text.partition(".")
    if point and not rest.strip("0") and whole.lstrip("+-").isdigit():
        return whole
    return text


def as_ids(column: Any) -> list[str]:
    """The values of a column of names as text, stripped; see `whole_id`.

    Unlike `as_texts` it keeps `12.00` and `12` apart, which may be two slides.
    """
    return [
        whole_id(value.strip()) if isinstance(value, str) else _as_text(value)
        for value in column.to_pylist()
    ]


def whole_id(name: str) -> str:
    """A name without the `.0` that pandas gives whole numbers beside empty cells.

    Example:
        >>> whole_id("1020.0"), whole_id("12.00"), whole_id("b.0")
        ('1020', '12.00', 'b.0')
    """
    return name[:-2] if re.fullmatch(r"\d+\.0", name) else name


def find_column(
    path: Path, names: Sequence[str], given: str | None, known: Sequence[str], option: str
) -> str:
    """The column of that name, or the first of those known.

    Raises:
        ValueError: where there is none; the message lists those that there are.
    """
    for name in known if given is None else [given]:
        if name in names:
            return name
    wanted = " or ".join(known) if given is None else given
    raise ValueError(
        f"{path}: expected a column {wanted}, got the columns {', '.join(names)}: name the right "
        f"one by {option}"
    )


def find_group_column(path: Path, names: Sequence[str], given: str | None) -> str | None:
    """The column of patients; None where none was given and none of the usual ones is there.

    Raises:
        ValueError: where the given one is not there.
    """
    if given is not None:
        return find_column(path, names, given, (), "data.group_column")
    return next((name for name in GROUP_COLUMNS if name in names), None)


def class_order(labels: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """The different labels in order: as numbers where all are whole numbers, as words else.

    Example:
        >>> class_order(["10", "2", "2"]), class_order(["tumour", "normal"])
        (('2', '10'), ('normal', 'tumour'))
    """
    different = set(labels)
    numbers = all(label.lstrip("+-").isdecimal() for label in different)
    return tuple(sorted(different, key=(lambda label: (int(label), label)) if numbers else None))
