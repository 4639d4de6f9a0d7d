"""Labels that are classes, one a bag: from their names to their numbers."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milforge.data.features.tables import class_order
from milforge.data.labels import LabelError, Labels
from milforge.tasks.reading import Problem, missing_problem, only_column, raise_problems, texts


def class_texts(labels: Labels, kind: str) -> list[str]:
    """The name of the class of each bag; empty where it is missing.

    Raises:
        LabelError: where there are several columns.
    """
    found = texts(only_column(labels, kind))
    if labels.is_text or not labels.class_names:
        return found
    by_number = {str(number): name for number, name in enumerate(labels.class_names)}
    return [by_number.get(text, text) for text in found]


def class_names_of(labels: Labels, found: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes in order: as the data set has them, else sorted.

    Numbers are sorted as numbers.

    Raises:
        LabelError: where no bag has a label, or all have the same, or two are spelt differently in
            case or spaces alone; it then names the bags of the rarer spelling.
    """
    if not labels.class_names:
        _refuse_spellings(found)
    names = labels.class_names or class_order([text for text in found if text])
    if len(names) < 2:
        got = f"one: {names[0]!r}" if names else "none"
        raise LabelError(
            f"expected at least two classes in the label column {labels.names[0]!r}, got {got}"
        )
    return names


def _refuse_spellings(found: Sequence[str]) -> None:
    """Raises where labels differ in case or spaces alone, with all bags that are at fault.

    Raises:
        LabelError: names the bags of the rarer spelling, and those without a label.
    """
    spellings: dict[str, Counter[str]] = {}
    for text in found:
        spellings.setdefault(" ".join(text.casefold().split()), Counter())[text] += 1
    right = {
        text: usual
        for counts in spellings.values()
        for usual in [counts.most_common(1)[0][0]]
        for text in counts
        if text != usual
    }
    if not right:
        return
    remedy = "write both alike, or name both in task.class_names where they differ in meaning"
    raise_problems(
        {
            row: (
                f"expected one spelling of each label, got {text!r} beside {right[text]!r}",
                remedy,
            )
            if text
            else missing_problem("the label")
            for row, text in enumerate(found)
            if not text or text in right
        }
    )


def class_numbers(
    found: Sequence[str], names: Sequence[str], *, may_add: bool
) -> NDArray[np.int64]:
    """The number of the class of each bag.

    Args:
        found: the name of each.
        names: those of the classes.
        may_add: whether the config names the classes, so that one can be added there.

    Raises:
        LabelError: names all bags without a label, or with one that is no class.
    """
    numbers = {name: number for number, name in enumerate(names)}
    known = ", ".join(names)
    remedy = "mend it, or add it to task.class_names" if may_add else "mend it, or remove the row"
    problems: dict[int, Problem] = {}
    for row, text in enumerate(found):
        if not text:
            problems[row] = missing_problem("the label")
        elif text not in numbers:
            message = f"expected the label among the classes {known}, got {text!r}"
            problems[row] = message, remedy
    raise_problems(problems)
    return np.array([numbers[text] for text in found], dtype=np.int64)
