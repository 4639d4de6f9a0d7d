"""Label columns that hold a time and whether it is that of an event: from text to numbers."""

import numpy as np
from numpy.typing import NDArray

from milforge.data.labels import LabelError, Labels
from milforge.tasks.reading import Problem, missing_problem, number, raise_problems, texts

_HOW = (
    "name them by data.label_column=[TIME,EVENT], or data.label_column=TIME "
    "data.censorship_column=CENSORED where 1 means censored"
)


def read_times(labels: Labels, kind: str) -> NDArray[np.float32]:
    """The time of each bag, and 1 where its event has happened.

    The time is the first column; the other one is the event, or where the data set says so the
    censorship, of which 1 is an event of 0.

    Args:
        labels: two columns.
        kind: what is written as `task=`.

    Returns:
        `(n, 2)`.

    Raises:
        LabelError: where there are other columns, or cells that are no times above 0 or neither 0
            nor 1; names all bags at fault.

    Example:
        >>> labels = Labels({"months": np.array(["3.5", "2"]), "dead": np.array(["1", "0"])})
        >>> read_times(labels, "cox").tolist()
        [[3.5, 1.0], [2.0, 0.0]]
    """
    if len(labels.names) != 2:
        raise LabelError(
            f"expected two label columns for task={kind}, a time and an event of 0 or 1, got "
            f"{', '.join(labels.names)}: {_HOW}"
        )
    time_name, event_name = labels.names
    if time_name == labels.censorship:
        time_name, event_name = event_name, time_name
    y = np.zeros((len(labels), 2), dtype=np.float32)
    problems: dict[int, Problem] = {}
    rows = zip(texts(labels.columns[time_name]), texts(labels.columns[event_name]), strict=True)
    for row, (time, event) in enumerate(rows):
        problem = _time_problem(time_name, time) or _event_problem(event_name, event)
        if problem is None:
            y[row] = float(time), float(event)
        else:
            problems[row] = problem
    if len(labels) and len(problems) == len(labels):
        # Not a list of all bags: the columns are others than was meant.
        message, _ = problems[0]
        raise LabelError(f"{message}, and no bag has both a time and an event: {_HOW}")
    raise_problems(problems)
    if event_name == labels.censorship:
        y[:, 1] = 1 - y[:, 1]
    return y


def _time_problem(name: str, text: str) -> Problem | None:
    if not text:
        return missing_problem(f"a time above 0 in the column {name!r}")
    value = number(text)
    # In the dtype in which it is kept, a tiny one is 0.
    if value is not None and np.float32(value) > 0 and np.isfinite(np.float32(value)):
        return None
    return f"expected a time above 0 in the column {name!r}, got {text!r}", (
        "mend it, or remove the row"
    )


def _event_problem(name: str, text: str) -> Problem | None:
    if not text:
        return missing_problem(f"0 or 1 in the column {name!r}")
    if number(text) in (0, 1):
        return None
    return f"expected 0 or 1 in the column {name!r}, got {text!r}", "mend it, or remove the row"
