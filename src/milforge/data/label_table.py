"""Bag labels and patients: from a table, or from where a layout keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.faults import BagError, Fault, list_faults
from milforge.data.readers import BagReader, bag_id_of
from milforge.data.tables import (
    GROUP_COLUMNS,
    as_texts,
    class_order,
    find_column,
    find_group_column,
    read_table,
)

ID_COLUMNS = ("slide_id", "bag_name", "bag_id", "FILENAME", "id")
LABEL_COLUMN = "label"
_FILENAME, _PATIENT = "FILENAME", "PATIENT"


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The labels of some bags.

    Args:
        ids: the bags, in the order of the table.
        labels: `(n,)` int64 numbers of classes; or `(n, C)` of 0 and 1 (multilabel).
        groups: the patient of each bag, or what else keeps bags together; None where there is
            nothing of the kind.
        classes: the names of the classes.
        faults: rows that are not among the bags, and why.
        source: where the labels come from.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[str, ...] | None
    classes: tuple[str, ...]
    faults: tuple[Fault, ...]
    source: Path

    def raise_if_faulty(self) -> None:
        """Raises one error that tells all faults.

        Raises:
            BagError: where there are any.
        """
        if self.faults:
            raise BagError(list_faults(str(self.source), self.faults), self.faults)


@dataclass(frozen=True)
class _Row:
    """A bag as a table has it: its class, or 0 and 1 for each; and where it stands."""

    bag_id: str
    label: str | tuple[str, ...]
    group: str | None
    place: str


def read_labels(
    path: str | Path,
    *,
    id_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    slide_table: str | Path | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = True,
) -> LabelTable:
    """Reads a table with a row a bag: CSV (commas, semicolons or tabs), TSV or Parquet.

    Names of bags lose the suffixes of slides and files, so `a.svs` is the bag of `a.h5`. Labels
    are words or whole numbers.

    Args:
        path: the table.
        id_column: column of the bag; None looks for `slide_id`, `bag_name`, `bag_id`, `FILENAME`
            and `id`, in this order.
        label_column: column of the label; several for a multilabel task, each of 0 and 1. None:
            `label`.
        group_column: column of the patient; None looks for `case_id`, `patient`, `patient_id`,
            `PATIENT` and `group`, and does without where there is none.
        slide_table: STAMP's second table: it says by `FILENAME` and `PATIENT` which slides are a
            patient's, and `path` has a row a patient.
        classes: the names of the classes in order, the negative one first in a binary task; None
            sorts them, numbers as numbers.
        strict: whether a faulty row is an error; else it is left out, and told in `faults`.

    Raises:
        FileNotFoundError: where there is no such table.
        ValueError: where it is no table, or a column is missing; the message lists those present.
        BagError: with `strict`, all faults of the rows together: bags named twice, labels that
            are empty or outside the classes, empty groups.
    """
    path = Path(path).expanduser()
    several = label_column is not None and not isinstance(label_column, str)
    table = _Columns(path)
    wanted = [label_column] if isinstance(label_column, str) else list(label_column or ())
    columns = [table.named(name, LABEL_COLUMN, option="data.label_column") for name in wanted] or [
        table.named(None, LABEL_COLUMN, option="data.label_column")
    ]
    labels: list[Any] = list(zip(*columns, strict=True)) if several else columns[0]
    faults: list[Fault] = []
    if slide_table is None:
        ids = table.named(id_column, *ID_COLUMNS, option="data.id_column")
        groups = table.group(group_column)
        rows = [
            _Row(bag_id_of(bag), label, group, f"row {number}")
            for number, (bag, label, group) in enumerate(zip(ids, labels, groups, strict=True), 1)
        ]
    else:
        patients = table.named(group_column, *GROUP_COLUMNS[::-1], option="data.group_column")
        rows, faults = _join(path, patients, labels, _Columns(Path(slide_table).expanduser()))
    names = tuple(wanted) if several else classes
    found = _check(path, rows, names, several, faults)
    if strict:
        found.raise_if_faulty()
    return found


def stored_labels(
    reader: BagReader, *, classes: Sequence[str] | None = None, strict: bool = True
) -> LabelTable | None:
    """The labels that a layout keeps itself, torchmil's and those of a table of instances.

    Args:
        reader: the bags.
        classes: as in `read_labels`; for a multilabel task numbers where None.
        strict: as in `read_labels`.

    Returns:
        The labels; None where the layout keeps none.

    Raises:
        BagError: with `strict`, all faults together.
    """
    if not reader.has_labels:
        return None
    rows, several = [], False
    faults: list[Fault] = []
    for bag_id in reader.ids:
        try:
            label, group = reader.label(bag_id), reader.group(bag_id)
        except BagError as error:
            faults += error.faults
            continue
        several |= isinstance(label, tuple)
        text = tuple(map(str, label)) if isinstance(label, tuple) else label or ""
        rows.append(_Row(bag_id, text, group, f"bag {bag_id!r}"))
    names = classes
    if several and classes is None:
        names = tuple(map(str, range(max(len(row.label) for row in rows))))
    found = _check(reader.root, rows, names, several, faults)
    if strict:
        found.raise_if_faulty()
    return found


class _Columns:
    """The columns of a table as text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = read_table(path, lambda name: True)

    def named(self, given: str | None, *known: str, option: str) -> list[str]:
        return as_texts(
            self.table[find_column(self.path, self.table.column_names, given, known, option)]
        )

    def group(self, given: str | None) -> list[str] | list[None]:
        name = find_group_column(self.path, self.table.column_names, given)
        return [None] * self.table.num_rows if name is None else as_texts(self.table[name])


def _join(
    path: Path, patients: list[str], labels: list[Any], slides: _Columns
) -> tuple[list[_Row], list[Fault]]:
    """The slides of the patients, with their labels."""
    faults = []
    by_patient: dict[str, Any] = {}
    for patient, label in zip(patients, labels, strict=True):
        if patient in by_patient:
            message = f"expected patient {patient!r} once, got another row"
            faults.append(Fault("", path, message, "remove one"))
        by_patient.setdefault(patient, label)
    files = slides.named(None, _FILENAME, option="its header")
    owners = slides.named(None, _PATIENT, option="its header")
    rows = []
    for number, (file, patient) in enumerate(zip(files, owners, strict=True), 1):
        if patient in by_patient:
            rows.append(_Row(bag_id_of(file), by_patient[patient], patient, f"row {number}"))
        else:
            message = f"expected patient {patient!r} of {file} in {path.name}, found no row"
            faults.append(
                Fault(bag_id_of(file), slides.path, message, "add the patient, or remove the slide")
            )
    for patient in by_patient.keys() - set(owners):
        message = f"expected a slide of patient {patient!r} in {slides.path.name}, found none"
        faults.append(Fault("", path, message, "add the slide, or remove the patient"))
    return rows, faults


def _check(
    path: Path,
    rows: list[_Row],
    classes: Sequence[str] | None,
    several: bool,
    faults: Sequence[Fault],
) -> LabelTable:
    """The rows without fault as numbers, and the faults of the others."""
    seen: dict[str, _Row] = {}
    found, good = list(faults), []
    ready = tuple(classes) if classes is not None else None
    for row in rows:
        problem = _problem(row, seen.get(row.bag_id), ready, several)
        seen.setdefault(row.bag_id, row)
        if problem is None:
            good.append(row)
        else:
            message, remedy = problem
            found.append(Fault(row.bag_id, path, f"{row.place}: {message}", remedy))
    faulty = {fault.bag_id for fault in found}  # a bag named twice is not taken at all
    good = [row for row in good if row.bag_id not in faulty]
    names = ready or class_order([str(row.label) for row in good])
    width = (len(good), len(names)) if several else (len(good),)
    numbers = [
        list(map(int, row.label)) if several else names.index(str(row.label)) for row in good
    ]
    groups = tuple(row.group for row in good if row.group is not None)
    return LabelTable(
        ids=tuple(row.bag_id for row in good),
        labels=np.array(numbers, dtype=np.int64).reshape(width),
        groups=groups if good and len(groups) == len(good) else None,
        classes=names,
        faults=tuple(found),
        source=path,
    )


def _problem(
    row: _Row, before: _Row | None, classes: tuple[str, ...] | None, several: bool
) -> tuple[str, str] | None:
    """What is wrong with a row and what to do about it."""
    if not row.bag_id:
        return "expected the name of a bag, got nothing", "fill it in, or remove the row"
    bag = f"bag {row.bag_id!r}"
    if before is not None:
        how = "the same label" if before.label == row.label else f"{before.label!r} there"
        return f"expected {bag} once, got it in {before.place} too, {how}", "remove one"
    if row.group == "":
        return f"expected the patient of {bag}, got nothing", "fill it in, or remove the row"
    if several:
        wrong = [value for value in row.label if value not in ("0", "1")]
        if wrong or not isinstance(row.label, tuple):
            return f"expected 0 or 1 for each class of {bag}, got {wrong or row.label}", "mend it"
        if len(row.label) != len(classes or ()):
            return f"expected {len(classes or ())} labels of {bag}, got {len(row.label)}", "mend it"
    elif not row.label:
        return f"expected the label of {bag}, got nothing", "fill it in, or remove the row"
    elif classes is not None and row.label not in classes:
        known = ", ".join(classes)
        return (
            f"expected the label of {bag} among the classes {known}, got {row.label!r}",
            "mend it, or add it to data.classes",
        )
    return None
