"""Reading the predictions that a run wrote."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from milforge.predictions_file import FILE, NEEDED, read_bags_table
from milforge.report.predictions import Floats, Predictions, Texts

WITH_CLASSES = ("Binary", "Multiclass", "Multilabel", "Ordinal")  # tasks
SEVERAL = "Multi"  # the task of several targets
LABELS = ("label", "time", "event")
TABLE = "table_"  # prefix of the other columns of the label table


def read_predictions(folder: Path) -> Predictions:
    """Reads `predictions/bags.parquet` of a run's folder.

    Grades are numbered from 0 for the lowest, as classes are.

    Raises:
        ValueError: where it cannot be read; names the remedy.
    """
    table, metadata = _read(folder)
    names = tuple(filter(None, metadata.get("class_names", "").split("\n")))
    shown = {name: name for name in table.column_names}
    return _of_columns(folder, table, shown, metadata.get("task", ""), names)


def read_targets(folder: Path) -> dict[str, Predictions]:
    """The same of each target of a task of several, by its name; of other tasks that of `""`.

    Raises:
        ValueError: where it cannot be read; names the remedy.
    """
    table, metadata = _read(folder)
    if metadata.get("task") != SEVERAL:
        return {"": read_predictions(folder)}
    try:
        targets = {
            name: (str(each["task"]), tuple(map(str, each["class_names"])))
            for name, each in json.loads(metadata["targets"]).items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{folder / FILE} does not say what its targets are: an older version wrote it; "
            "evaluate the checkpoint again (milforge-evaluate)"
        ) from error
    found = {}
    for name, (task, classes) in targets.items():
        shown = _columns_of(name, table.column_names, list(targets))
        found[name] = _of_columns(folder, table, shown, task, classes)
    return found


def _read(folder: Path) -> tuple[Any, dict[str, str]]:
    table = read_bags_table(folder / FILE)
    metadata = table.schema.metadata or {}
    return table, {key.decode(): value.decode() for key, value in metadata.items()}


def _columns_of(target: str, names: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """The columns of a target and those of all, by what its task calls them."""
    own = f"{target}_"
    longer = tuple(f"{each}_" for each in targets if each.startswith(own))
    shared = {
        name: name
        for name in names
        if name in NEEDED or name.startswith(TABLE) or name.startswith("logit_")
    }
    mine = (name for name in names if name.startswith(own) and not name.startswith(longer or "\0"))
    return shared | {name.removeprefix(own): name for name in mine}


def _of_columns(
    folder: Path, table: Any, shown: Mapping[str, str], task: str, class_names: tuple[str, ...]
) -> Predictions:
    """The columns of the table that are `shown`, by another name to that in the table."""
    import pyarrow as pa

    labels: dict[str, Floats] = {}
    columns: dict[str, Floats] = {}
    others: dict[str, Texts] = {}
    for name, written in shown.items():
        column = table.column(written)
        if name in NEEDED:
            continue
        if name.startswith(TABLE):
            others[name.removeprefix(TABLE)] = np.array(column.to_pylist(), object)
        elif pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            is_label = name in LABELS or name.startswith("label_")
            values = column.cast(pa.float64()).to_numpy()
            (labels if is_label else columns)[name] = values
    if task == "Ordinal" and "label" in labels:
        labels["label"] = _grade_numbers(labels["label"], class_names)
    found = Predictions(
        task=task,
        class_names=class_names,
        bag_id=np.array(table.column("bag_id").to_pylist(), object),
        part=np.array(table.column("part").to_pylist(), object),
        patient=np.array(table.column("patient").to_pylist(), object),
        size=np.asarray(table.column("size").to_numpy(), np.int64),
        order=np.asarray(table.column("order").to_numpy(), np.int64),
        labels=labels,
        columns=columns,
        table=others,
    )
    _check_classes(found, folder / FILE)
    return found


def _grade_numbers(label: Floats, class_names: Sequence[str]) -> Floats:
    """Grades as the label table has them, where these are whole numbers, from 0 for the lowest.

    Example:
        >>> _grade_numbers(np.array([2.0, 4, np.nan, 7]), ["2", "3", "4"]).tolist()
        [0.0, 2.0, nan, -1.0]
        >>> _grade_numbers(np.array([1.0]), ["low", "high"]).tolist()
        [1.0]
    """
    try:
        grades = np.array([float(name) for name in class_names])
    except ValueError:
        return label
    if not len(grades) or (grades % 1 != 0).any():
        return label
    same = label[:, None] == grades
    return np.where(np.isnan(label), np.nan, np.where(same.any(1), same.argmax(1), -1.0))


def _check_classes(found: Predictions, path: Path) -> None:
    """Checks that labels and probabilities are those of the classes that the file names.

    Raises:
        ValueError: where they are not.
    """
    classes = len(found.class_names)
    if found.task not in WITH_CLASSES or not found.labels:
        return
    several = found.task == "Multilabel"
    numbers = np.arange(2 if several else classes)
    for name, values in found.labels.items():
        odd = values[np.isfinite(values) & ~np.isin(values, numbers)]
        if len(odd):
            raise ValueError(
                f"{path} is damaged (expected numbers of {len(numbers)} classes as {name}, got "
                f"{odd[0]:g}): evaluate the checkpoint again (milforge-evaluate)"
            )
    p = found.predicted("probability") if found.has("probability") else np.empty((0, 0))
    fits = p.ndim == 2 and p.shape[1] == classes
    if (
        not fits
        or not (several or set(found.labels) == {"label"})
        or (p < 0).any()
        or (p > 1).any()
    ):
        raise ValueError(
            f"{path} is damaged (expected a probability of each of {classes} classes, and the "
            "label): evaluate the checkpoint again (milforge-evaluate)"
        )
