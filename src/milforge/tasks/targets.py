"""One of several targets of a task, as a config names it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.labels import LabelError, Labels
from milforge.tasks.base import Task
from milforge.tasks.reading import texts

_KEYS = ("task", "columns", "weight")


@dataclass
class Target:
    """A target.

    Args:
        task: what its labels mean.
        columns: its label columns.
        weight: of its loss.
        width: of the columns of y that are its own.
        flat: whether its task has labels `(n,)`.
        scale: of its loss: all training bags over those that have a label.
    """

    task: Task
    columns: tuple[str, ...]
    weight: float
    width: int = 1
    flat: bool = True
    scale: float = 1.0

    def labels(self, labels: Labels) -> Labels:
        """Its columns.

        Raises:
            LabelError: where one is not there.
        """
        lacking = [name for name in self.columns if name not in labels.columns]
        if lacking:
            raise LabelError(
                f"expected the label columns {', '.join(self.columns)}, got "
                f"{', '.join(labels.names)}: {', '.join(lacking)} is not there; list all label "
                "columns in data.label_column, and those of each target in its columns"
            )
        return labels.only(self.columns)

    def present(self, labels: Labels) -> NDArray[np.bool_]:
        """`(n,)` which bags have anything in its columns."""
        columns = self.labels(labels).columns.values()
        cells = zip(*map(texts, columns), strict=True)
        return np.array([any(row) for row in cells], dtype=np.bool_)

    def state(self) -> dict[str, Any]:
        """What it knows, as plain data."""
        return {
            "task": self.task.state(),
            "columns": list(self.columns),
            "width": self.width,
            "flat": self.flat,
            "scale": self.scale,
        }

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Knows again what it did when `state` was called."""
        self.task = self.task.from_state(state["task"])
        self.columns = tuple(state["columns"])
        self.width, self.flat, self.scale = state["width"], state["flat"], state["scale"]


def as_targets(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Target]:
    """The targets of a config.

    Raises:
        ValueError: for other keys, what is no task, or a weight that is not positive.
    """
    targets = {}
    for name, each in given.items():
        key = f"task.targets.{name}"
        unknown = [str(word) for word in each if word not in _KEYS]
        if unknown or "task" not in each:
            raise ValueError(
                f"expected {key} to have task, and columns and weight if need be, got "
                f"{', '.join(map(str, each)) or 'nothing'}"
            )
        if not isinstance(each["task"], Task):
            raise ValueError(
                f"expected {key}.task to be a task such as _target_: milforge.tasks.Cox, got "
                f"{type(each['task']).__name__}"
            )
        columns = each.get("columns") or name
        weight = float(each.get("weight", 1.0))
        if not 0 < weight < np.inf:
            raise ValueError(f"expected {key}.weight above 0, got {weight:g}")
        named = (columns,) if isinstance(columns, str) else tuple(map(str, columns))
        targets[str(name)] = Target(each["task"], named, weight)
    return targets


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Errors of labels name the target.

    Raises:
        LabelError: with its name.
    """
    try:
        yield
    except LabelError as error:
        raise LabelError(f"target {name!r}: {error}", error.problems) from error
