"""How the cells of label columns are read."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from milforge.data.labels import MISSING, LabelError, Labels

Problem = tuple[str, str]  # what is wrong with a bag, and what to do about it

_FILL = "fill it in, or remove the row"


def texts(column: NDArray[Any]) -> list[str]:
    """The values as text; whole numbers without a point, what is missing empty.

    Example:
        >>> import numpy as np
        >>> texts(np.array([" yes", "NA"])), texts(np.array([1.0, 0.5, np.nan]))
        (['yes', ''], ['1', '0.5', ''])
    """
    return [_text(value) for value in column.tolist()]


def _text(value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    text = str(value).strip()
    return "" if text.lower() in MISSING else text


def number(text: str) -> float | None:
    """The number that a text is; None where it is none, or not finite.

    Example:
        >>> number("1e-3"), number("0,5"), number("inf")
        (0.001, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def names_of(names: Sequence[Any] | None, option: str) -> tuple[str, ...]:
    """Names of classes, as a config has them; empty where it has none.

    Raises:
        ValueError: for names that are truth values, or given twice.

    Example:
        >>> names_of(["no", 1], "task.class_names")
        ('no', '1')
    """
    if isinstance(names, str):
        raise ValueError(f"expected {option} to be a list of names, got {names!r}")
    found = tuple(name_of(name, option) for name in names or ())
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise ValueError(f"expected different names in {option}, got {twice[0]!r} twice")
    return found


def name_of(name: Any, option: str) -> str:
    """The name of a class, as a config has it.

    Raises:
        ValueError: for a truth value.
    """
    if isinstance(name, bool):
        raise ValueError(
            f"expected {option} to be text, got {name}: YAML reads yes, no, on and off as true and "
            "false; put the name in quotes"
        )
    return str(name).strip()


def only_column(labels: Labels, kind: str) -> NDArray[Any]:
    """The single column.

    Raises:
        LabelError: where there are several.
    """
    if len(labels.names) > 1:
        raise LabelError(
            f"expected one label column for task={kind}, got {', '.join(labels.names)}: "
            "task=multilabel takes several of 0 and 1, task=regression several of numbers"
        )
    return labels.columns[labels.names[0]]


def columns_named(labels: Labels, names: Sequence[str]) -> list[NDArray[Any]]:
    """The columns of these names.

    Raises:
        LabelError: where one is not there.
    """
    lacking = [name for name in names if name not in labels.columns]
    if lacking:
        raise LabelError(
            f"expected the label columns {', '.join(names)}, as in training, got "
            f"{', '.join(labels.names)}: {', '.join(lacking)} is not there"
        )
    return [labels.columns[name] for name in names]


def missing_problem(what: str) -> Problem:
    """The problem of a bag without a label."""
    return f"expected {what}, got nothing", _FILL


def raise_problems(problems: Mapping[int, Problem]) -> None:
    """Raises them together.

    Raises:
        LabelError: where there are any.
    """
    if problems:
        message, remedy = problems[min(problems)]
        raise LabelError(f"{message}: {remedy}", problems)
