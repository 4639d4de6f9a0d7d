"""Bag labels and patients: from a table, or from where a layout keeps them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from milforge.data.faults import BagError, Fault, list_faults
from milforge.data.features.readers import BagReader, bag_id_of
from milforge.data.features.tables import (
    GROUP_COLUMNS,
    as_ids,
    as_texts,
    find_column,
    find_group_column,
    read_table,
)
from milforge.data.labels import Labels

ID_COLUMNS = ("slide_id", "bag_name", "bag_id", "FILENAME", "id")
LABEL_COLUMN = "label"
_FILENAME, _PATIENT = "FILENAME", "PATIENT"


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The labels of some bags, as a table has them.

    Args:
        ids: the bags, in the order of the table.
        labels: their label columns, as text; None where the table is read without any.
        places: where each bag stands in the table, for messages.
        groups: the patient of each bag, or what else keeps bags together; None where there is
            nothing of the kind.
        columns: the other columns of the table, name to the text of each bag.
        faults: rows that are not among the bags, and why.
        source: where the labels come from.
    """

    ids: tuple[str, ...]
    labels: Labels | None
    places: tuple[str, ...]
    groups: tuple[str, ...] | None
    columns: Mapping[str, tuple[str, ...]]
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
    """A bag as a table has it: its labels, and where it stands."""

    bag_id: str
    labels: tuple[str, ...]
    group: str | None
    place: str
    others: tuple[str, ...] = ()


def read_labels(
    path: str | Path,
    *,
    id_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    censorship_column: str | None = None,
    slide_table: str | Path | None = None,
    strict: bool = True,
) -> LabelTable:
    """Reads a table with one row per bag: CSV (commas, semicolons or tabs), TSV or Parquet.

    Names of bags lose the suffixes of slides and files, so `a.svs` is the bag of `a.h5`. What the
    labels mean, the task says (`milforge.tasks`): here they are text.

    Args:
        path: the table.
        id_column: column of the bag; None looks for `slide_id`, `bag_name`, `bag_id`, `FILENAME`
            and `id`, in this order.
        label_column: column of the label, or several; None: `label`. An empty list reads a table
            without labels, whose bags are to be predicted.
        group_column: column of the patient; None looks for `case_id`, `patient`, `patient_id`,
            `PATIENT` and `group`, and does without where there is none.
        censorship_column: column in which 1 means that a time is censored; it is the last of the
            label columns. None: there is none.
        slide_table: STAMP's second table: it says by `FILENAME` and `PATIENT` which slides are a
            patient's, and `path` has one row per patient.
        strict: whether a faulty row is an error; else it is left out, and is in `faults`.

    Raises:
        FileNotFoundError: where there is no such table.
        ValueError: where it is no table, or a column is missing; the message lists those present.
        BagError: with `strict`, all faults of the rows together: bags named twice, and bags
            without a name or a group.
    """
    path = Path(path).expanduser()
    table = _Columns(path)
    given = (
        [label_column] if label_column is None or isinstance(label_column, str) else label_column
    )
    option = "data.label_column (or [] for a table without labels, to predict)"
    names = [table.find(name, LABEL_COLUMN, option=option) for name in given]
    if censorship_column is not None and names:
        names.append(table.find(censorship_column, option="data.censorship_column"))
        if names.count(censorship_column) > 1:
            raise ValueError(
                f"{path}: expected data.censorship_column beside data.label_column, got "
                f"{censorship_column!r} in both: name it as data.censorship_column alone"
            )
    labels = table.rows(names)
    faults: list[Fault] = []
    if slide_table is None:
        id_name = table.find(id_column, *ID_COLUMNS, option="data.id_column")
        group_name = find_group_column(path, table.names, group_column)
        groups = [None] * len(labels) if group_name is None else table.texts(group_name)
        others = [name for name in table.names if name not in (id_name, group_name, *names)]
        rows = [
            _Row(bag_id_of(bag), label, group, f"row {number}", other)
            for number, (bag, label, group, other) in enumerate(
                zip(table.ids(id_name), labels, groups, table.rows(others), strict=True), 1
            )
        ]
    else:
        patient = table.find(group_column, *GROUP_COLUMNS[::-1], option="data.group_column")
        others = [name for name in table.names if name not in (patient, *names)]
        slides = _Columns(Path(slide_table).expanduser())
        by_patient = zip(labels, table.rows(others), strict=True)
        rows, faults = _join(path, table.texts(patient), list(by_patient), slides)
    found = _check(path, rows, names, others, faults)
    if censorship_column is not None and found.labels is not None:
        found = replace(found, labels=replace(found.labels, censorship=censorship_column))
    if strict:
        found.raise_if_faulty()
    return found


def stored_labels(reader: BagReader, *, strict: bool = True) -> LabelTable | None:
    """The labels that a layout keeps itself, torchmil's and those of a table of instances.

    Args:
        reader: the bags.
        strict: as in `read_labels`.

    Returns:
        The labels, in the column `label`, or the columns `0`, `1` and so on where there are
        several; None where the layout keeps none.

    Raises:
        BagError: with `strict`, all faults together.
    """
    if not reader.has_labels:
        return None
    found: dict[str, tuple[tuple[str, ...], str | None]] = {}
    faults: list[Fault] = []
    for bag_id in reader.ids:
        try:
            label, group = reader.label(bag_id), reader.group(bag_id)
        except BagError as error:
            faults += error.faults
            continue
        if label is None:
            texts: tuple[str, ...] = ()
        else:
            texts = tuple(map(str, label)) if isinstance(label, tuple) else (label,)
        found[bag_id] = texts, group
    numbers = Counter(len(texts) for texts, _ in found.values() if texts)
    usual = numbers.most_common(1)[0][0] if numbers else 1
    missing = ("",) * usual
    rows = [
        _Row(bag_id, texts or missing, group, f"bag {bag_id!r}")
        for bag_id, (texts, group) in found.items()
    ]
    names = ["label"] if usual == 1 else list(map(str, range(usual)))
    table = _check(reader.root, rows, names, [], faults)
    if strict:
        table.raise_if_faulty()
    return table


class _Columns:
    """The columns of a table as text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = read_table(path, lambda name: True)

    @property
    def names(self) -> list[str]:
        return list(self.table.column_names)

    def find(self, given: str | None, *known: str, option: str) -> str:
        return find_column(self.path, self.names, given, known, option)

    def texts(self, name: str) -> list[str]:
        return as_texts(self.table[name])

    def ids(self, name: str) -> list[str]:
        return as_ids(self.table[name])

    def rows(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The values of some columns, row by row; empty ones where there is no column."""
        columns = [self.texts(name) for name in names]
        return list(zip(*columns, strict=True)) if columns else [()] * self.table.num_rows


def _join(
    path: Path,
    patients: list[str],
    known: list[tuple[tuple[str, ...], tuple[str, ...]]],
    slides: _Columns,
) -> tuple[list[_Row], list[Fault]]:
    """The slides of the patients, with their labels and other columns."""
    faults = []
    by_patient = dict(zip(patients, known, strict=True))
    repeated = {patient for patient, count in Counter(patients).items() if count > 1}
    files = slides.ids(slides.find(None, _FILENAME, option="its header"))
    owners = slides.texts(slides.find(None, _PATIENT, option="its header"))
    rows = []
    for number, (file, patient) in enumerate(zip(files, owners, strict=True), 1):
        if patient in repeated:  # nobody knows which row is meant
            message = f"expected patient {patient!r} of {file} once, got another row"
            faults.append(Fault(bag_id_of(file), path, message, "remove one"))
        elif patient in by_patient:
            labels, others = by_patient[patient]
            rows.append(_Row(bag_id_of(file), labels, patient, f"row {number}", others))
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
    names: Sequence[str],
    others: Sequence[str],
    faults: Sequence[Fault],
) -> LabelTable:
    """The rows without fault, and the faults of the others."""
    seen: dict[str, _Row] = {}
    found, good = list(faults), []
    for row in rows:
        problem = _problem(row, seen.get(row.bag_id), len(names))
        seen.setdefault(row.bag_id, row)
        if problem is None:
            good.append(row)
        else:
            message, remedy = problem
            found.append(Fault(row.bag_id, path, f"{row.place}: {message}", remedy))
    faulty = {fault.bag_id for fault in found}  # a bag named twice is not taken at all
    good = [row for row in good if row.bag_id not in faulty]
    labels = {name: [row.labels[i] for row in good] for i, name in enumerate(names)}
    groups = tuple(row.group for row in good if row.group is not None)
    return LabelTable(
        ids=tuple(row.bag_id for row in good),
        labels=(
            Labels({name: np.array(texts, dtype=str) for name, texts in labels.items()})
            if labels
            else None
        ),
        places=tuple(row.place for row in good),
        groups=groups if good and len(groups) == len(good) else None,
        columns={name: tuple(row.others[i] for row in good) for i, name in enumerate(others)},
        faults=tuple(found),
        source=path,
    )


def _problem(row: _Row, before: _Row | None, labels: int) -> tuple[str, str] | None:
    """What is wrong with a row and what to do about it."""
    if not row.bag_id:
        return "expected the name of a bag, got nothing", "fill it in, or remove the row"
    bag = f"bag {row.bag_id!r}"
    if before is not None:
        there = ", ".join(before.labels)
        how = "the same label" if before.labels == row.labels else f"{there!r} there"
        return f"expected {bag} once, got it in {before.place} too, {how}", "remove one"
    if row.group == "":
        return f"expected the patient of {bag}, got nothing", "fill it in, or remove the row"
    if len(row.labels) != labels:
        return f"expected {labels} labels of {bag}, got {len(row.labels)}", "mend it"
    return None
