"""Bag labels as a data set knows them, before a task has given them a meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How tables write that a value is missing, in lower case.
MISSING = ("", "na", "n/a", "nan", "null", "none", "<na>")


@dataclass(frozen=True, eq=False)
class Labels:
    """The label columns of some bags.

    Args:
        columns: name to array `(n,)`, of text, as a table has it, or of numbers, as a generated
            data set has them.
        class_names: the names of the classes, where the data set knows them: numbers in a single
            column then count the classes from 0, negative first. Empty: the task finds them.
        censorship: the name of the column in which 1 means that a time is censored, where there is
            one; elsewhere 1 means that the event has happened.

    Raises:
        ValueError: where there is no column, or they differ in length.

    Example:
        >>> len(Labels({"label": np.array(["tumour", "normal"])}))
        2
    """

    columns: Mapping[str, NDArray[Any]]
    class_names: tuple[str, ...] = ()
    censorship: str | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"expected label columns of one length, got {lengths or 'none'}")

    def __len__(self) -> int:
        """Number of bags."""
        return len(next(iter(self.columns.values())))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.columns)

    @property
    def is_text(self) -> bool:
        """Whether any column holds text."""
        return any(column.dtype.kind in "OUS" for column in self.columns.values())

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Labels":
        """The labels of some bags, by their numbers."""
        chosen = np.asarray(rows, dtype=np.int64)
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Labels(columns, self.class_names, self.censorship)

    def only(self, names: Sequence[str]) -> "Labels":
        """Some of the columns."""
        return Labels({name: self.columns[name] for name in names}, (), self.censorship)


class LabelError(ValueError):
    """Labels that do not fit the task.

    Args:
        message: what is wrong with all of them, or with the first.
        problems: number of a bag to what is wrong with its label, and what to do about it. Empty
            where the fault is not that of single bags.
    """

    def __init__(self, message: str, problems: Mapping[int, tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.problems = dict(problems or {})
