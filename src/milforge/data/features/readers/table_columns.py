"""Which columns of a table of instances are features, and which are left out or doubtful."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.labels import MISSING

# How pandas writes row numbers that nobody named: in CSV, read from CSV again, and in Parquet.
_NAMELESS = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__")
# Words in the name of a column that mostly is no feature.
_DOUBTFUL_WORDS = {
    *("instance", "index", "idx", "id", "label", "target", "class", "fold", "split"),
    *("bag", "slide", "patient", "case", "row"),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_MOST_NAMED = 20  # columns in a message
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table of instances.

    Args:
        features: names of the columns that are features, in order.
        left_out: columns that are none, name to the reason.
        truth_values: features of True and False, read as 1 and 0.
        doubtful: features that may be something else, name to the reason.
    """

    features: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    truth_values: tuple[str, ...] = ()
    doubtful: Mapping[str, str] = field(default_factory=dict)


def choose_columns(
    path: Path,
    table: Any,
    roles: Mapping[str, str],
    chosen: Sequence[str] | None = None,
    excluded: Sequence[str] = (),
) -> tuple[TableColumns, NDArray[np.float32]]:
    """The features of a table, and which columns they are.

    Features are the columns of numbers and of True and False that have no other role, without row
    numbers that nobody named (`Unnamed: 0`, `__index_level_0__`, an empty name). A column that is
    numbers in at least half of its filled cells and not in all is an error.

    Args:
        path: the table, for messages.
        table: a `pyarrow.Table` of M rows.
        roles: columns that are something else, name to what: bag, label and so on.
        chosen: the names of the features in order; None: by the rule above.
        excluded: columns that are no features.

    Returns:
        The columns, and `(M, D)` float32 features, NaN where a value is missing.

    Raises:
        ValueError: where there is no feature, a column that is named is not there or has another
            role, or one that is to be a feature holds other things than numbers.
    """
    names = table.column_names
    _check_names(path, names, roles, chosen, excluded)
    left_out = {name: "data.exclude_columns" for name in excluded if name in names}
    values: dict[str, NDArray[np.float32]] = {}
    truth_values, integers = [], {}
    for name in names if chosen is None else chosen:
        if name in roles or name in left_out:
            continue
        if chosen is None and _NAMELESS.fullmatch(name):
            left_out[name] = "row numbers without a name"
            continue
        column = _decoded(table[name])
        kind = _kind(column.type)
        if kind == "text":
            _check_text(path, name, column.to_pylist(), must=chosen is not None)
            left_out[name] = "text"
        elif kind in ("numbers", "truth"):
            exact = column.cast("int8") if kind == "truth" else column
            numbers = exact.cast("double", safe=False).to_numpy()
            values[name] = numbers.astype(np.float32)
            if kind == "truth":
                truth_values.append(name)
            elif np.isfinite(numbers).all() and (numbers == np.round(numbers)).all():
                integers[name] = numbers
        elif chosen is not None:
            raise ValueError(
                f"{path}: expected numbers in the column {name!r}, got {column.type}: take it out "
                "of data.feature_columns"
            )
        else:
            left_out[name] = "empty" if kind == "empty" else str(column.type)
    if chosen is not None:
        named = {*roles, *chosen, *excluded}
        left_out |= {name: "not in data.feature_columns" for name in names if name not in named}
    if not values:
        raise ValueError(
            f"{path}: expected at least one column of numbers as a feature, got the columns "
            f"{', '.join(names)}: write a column for each feature"
        )
    doubtful = {} if chosen is not None else _doubtful(table, roles, values, integers)
    columns = TableColumns(tuple(values), left_out, tuple(truth_values), doubtful)
    return columns, np.stack(list(values.values()), axis=1)


def _check_names(
    path: Path,
    names: Sequence[str],
    roles: Mapping[str, str],
    chosen: Sequence[str] | None,
    excluded: Sequence[str],
) -> None:
    for option, given in (("feature_columns", chosen or ()), ("exclude_columns", excluded)):
        twice = [name for name in given if list(given).count(name) > 1]
        if twice:
            raise ValueError(f"data.{option}: expected each column once, got {twice[0]!r} twice")
        # What is left out need not be there where the features are named.
        absent = [name for name in given if name not in names]
        if absent and not (option == "exclude_columns" and chosen is not None):
            raise ValueError(
                f"{path}: expected the columns {', '.join(map(repr, absent[:10]))} of "
                f"data.{option} (a checkpoint keeps those that it was trained on), got the columns "
                f"{', '.join(names)}: add them to the table, or correct the option"
            )
    for name in chosen or ():
        if name in roles:
            raise ValueError(
                f"data.feature_columns: the column {name!r} of {path} is that of the "
                f"{roles[name]}: take it out, or name the column of the {roles[name]}"
            )
        if name in excluded:
            raise ValueError(
                f"expected {name!r} in one of data.feature_columns and data.exclude_columns, got "
                "it in both"
            )


def _decoded(column: Any) -> Any:
    """A categorical column as one of its values."""
    from pyarrow import types

    return column.cast(column.type.value_type) if types.is_dictionary(column.type) else column


def _kind(kind: Any) -> str:
    from pyarrow import types

    if types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind):
        return "numbers"
    if types.is_boolean(kind):
        return "truth"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    return "empty" if types.is_null(kind) else "other"


def _check_text(path: Path, name: str, cells: Sequence[str | None], *, must: bool) -> None:
    """Raises where a column of text was to be one of numbers.

    Raises:
        ValueError: names the first value that is none, and its row.
    """
    filled = [
        (row, cell)
        for row, cell in enumerate(cells)
        if cell is not None and cell.strip().lower() not in MISSING
    ]
    commas = [(row, cell) for row, cell in filled if _DECIMAL_COMMA.fullmatch(cell)]
    bad = [(row, cell) for row, cell in filled if not _is_number(cell)]
    numbers = len(filled) - len(bad) + len(commas)
    if not must and (not filled or 2 * numbers < len(filled)):
        return
    row, cell = (bad or filled or [(0, "")])[0]
    remedy = (
        "write numbers with a point"
        if (row, cell) in commas
        else "write a number there, or leave the cell empty and repair or drop its bag"
    )
    raise ValueError(
        f"{path}: expected numbers in the column {name!r}, got {cell!r} in row {row} (counted "
        f"from 0) and such values in {len(bad)} of {len(cells)} rows: {remedy}; "
        f"data.exclude_columns=[{name}] leaves the column out"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _doubtful(
    table: Any,
    roles: Mapping[str, str],
    values: Mapping[str, NDArray[np.float32]],
    integers: Mapping[str, NDArray[np.float64]],
) -> dict[str, str]:
    """Features that may be something else, and why."""
    doubtful = {}
    by_role = {role: name for name, role in roles.items()}
    _, bags = np.unique(np.array(table[by_role["bag"]].to_pylist(), dtype=str), return_inverse=True)
    order = np.argsort(bags, kind="stable")
    first = np.flatnonzero(np.diff(bags[order], prepend=-1))
    labels = None
    if "label" in by_role:
        texts = np.array(list(map(str, table[by_role["label"]].to_pylist())))
        labels = np.unique(texts, return_inverse=True)[1]
    for name, column in values.items():
        words = {word.lower() for word in _WORD.findall(name)}
        if labels is not None and len(first) > 2 and _says_the_label(column, labels):
            doubtful[name] = "it says the label of the bag"
        elif name in integers and _counts_up(integers[name], order, first):
            doubtful[name] = "it counts rows"
        elif words & _DOUBTFUL_WORDS:
            doubtful[name] = "by its name"
    return doubtful


def _counts_up(column: NDArray[np.float64], order: NDArray[np.int64], first: Any) -> bool:
    """Whether a column rises by one from row to row, of the table or of each bag."""
    if len(column) < 3:
        return False
    if (np.diff(column) == 1).all():
        return True
    steps = np.diff(column[order])
    inside = np.ones(len(steps), dtype=bool)
    inside[first[1:] - 1] = False  # from a bag to the next
    return bool(inside.sum() > 1 and (steps[inside] == 1).all())


def _says_the_label(column: NDArray[np.float32], labels: NDArray[np.int64]) -> bool:
    """Whether each value goes with one label and each label with one value."""
    _, first = np.unique(labels, return_index=True)
    of_label = column[first]
    different = len(np.unique(of_label)) == len(first) > 1
    return bool(different and (column == of_label[labels]).all())


def describe_columns(
    path: Path, columns: TableColumns, most: int | None = _MOST_NAMED
) -> list[tuple[int, str]]:
    """What a user is to know of the columns: levels of logging, and lines.

    Args:
        path: the table.
        columns: which are features, left out and doubtful.
        most: how many are named of each kind; None: all.
    """
    said = [(logging.INFO, f"{path}: {_some(columns.features, 'feature column', most)}")]
    if columns.truth_values:
        names = _some(columns.truth_values, "column", most)
        said.append((logging.INFO, f"{path}: True and False are read as 1 and 0: {names}"))
    if columns.left_out:
        reasons = [f"{name or repr(name)} ({why})" for name, why in columns.left_out.items()]
        said.append((logging.INFO, f"{path}: left out: {_some(reasons, 'column', most)}"))
    if columns.doubtful:
        reasons = [f"{name} ({why})" for name, why in columns.doubtful.items()]
        many = _some(reasons, "column", most)
        message = f"{path}: may be no features: {many}: data.exclude_columns leaves them out"
        said.append((logging.WARNING, message))
    return said


def _some(names: Sequence[str], what: str, most: int | None) -> str:
    """The number of names and the first few."""
    more = "" if most is None or len(names) <= most else ", ..."
    count = f"{len(names)} {what}" + ("" if len(names) == 1 else "s")
    return f"{count}: {', '.join(names[:most])}{more}"
