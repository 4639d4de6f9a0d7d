"""The task that the labels look like."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from torchmetrics import Metric

from milforge.data.labels import LabelError, Labels
from milforge.tasks.base import Task
from milforge.tasks.classes.binary import Binary
from milforge.tasks.classes.class_labels import class_names_of, class_texts
from milforge.tasks.classes.multiclass import Multiclass
from milforge.tasks.classes.multilabel import Multilabel
from milforge.tasks.reading import number, texts

logger = logging.getLogger(__name__)

# More different numbers than any scale of grades has.
_MOST_GRADES = 20


class Auto(Task):
    """Binary, multiclass or multilabel, by the labels.

    Several columns of 0 and 1 are labels of which a bag may have any (multilabel); in a single
    column, two different labels are binary, more are multiclass. What looks like numbers to be
    predicted is refused: `task=regression` is for those.

    `resolve` and `from_state` give the task; nothing else may be asked of this one.

    Args:
        class_names: the names of the classes in order, the negative one first; None: found.
        positive: the name of the positive class of two; None: the last.
        class_weights: see `Classification`.

    Example:
        >>> import numpy as np
        >>> Auto().resolve(Labels({"label": np.array(["no", "yes", "no"])})).kind
        'binary'
    """

    metric_types: ClassVar[Mapping[str, type[Metric]]] = {
        **Multilabel.metric_types,
        **Multiclass.metric_types,
        **Binary.metric_types,
    }

    def __init__(
        self,
        class_names: Sequence[str | float | bool] | None = None,
        positive: str | float | bool | None = None,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self._class_names = class_names
        self._positive = positive
        self._class_weights = class_weights

    def resolve(self, labels: Labels) -> Binary | Multiclass | Multilabel:
        """The task for these labels.

        Raises:
            LabelError: where they are of one class only, or look like numbers to be predicted.
        """
        # Of several labels a data set gives the name of each: there may be one.
        if len(labels.names) > 1 or labels.class_names == labels.names:
            _refuse_other_columns(labels)
            return self._of_kind(Multilabel.kind)
        found = class_texts(labels, "auto")
        names = self._class_names or labels.class_names
        if not names:
            _refuse_numbers(labels.names[0], [text for text in found if text])
            names = class_names_of(labels, found)
            if len(names) > 2 and all(number(name) is not None for name in names):
                logger.info(
                    "the numbers %s are %d classes, whose order is ignored; task=regression "
                    "predicts numbers",
                    ", ".join(names),
                    len(names),
                )
        return self._of_kind(Binary.kind if len(names) == 2 else Multiclass.kind)

    def from_state(self, state: Mapping[str, Any]) -> Binary | Multiclass | Multilabel:
        """The task that was chosen then, as it was.

        Raises:
            ValueError: where the state is that of no task with classes.
        """
        kind = state.get("kind")
        kinds = (Binary.kind, Multiclass.kind, Multilabel.kind)
        if kind not in kinds:
            raise ValueError(
                f"expected the checkpoint of a {', '.join(kinds)} task for task=auto, got one of "
                f"kind {kind!r}: name that task"
            )
        return self._of_kind(kind).from_state(state)

    def _of_kind(self, kind: str) -> Binary | Multiclass | Multilabel:
        names, weights = self._class_names, self._class_weights
        if kind == Binary.kind:
            return Binary(names, self._positive, weights)
        if self._positive is not None:
            raise LabelError(
                f"expected two classes for task.positive={self._positive}, got labels that are "
                f"{kind}: leave it out"
            )
        return Multiclass(names, weights) if kind == Multiclass.kind else Multilabel(names, weights)

    def _ask(self, *args: Any, **options: Any) -> NoReturn:
        raise RuntimeError("expected resolve() or from_state() first: task=auto is no task itself")

    encode = loss = predict = average = inputs = metrics = label_columns = describe = _ask


def _refuse_other_columns(labels: Labels) -> None:
    """Raises where the columns are not of 0 and 1; `Multilabel` reports a few slips.

    Raises:
        LabelError: names the first column that is not.
    """
    for name, column in labels.columns.items():
        found = [text for text in texts(column) if text]
        others = [text for text in found if number(text) not in (0, 1)]
        if 2 * len(others) > len(found):
            raise LabelError(
                f"expected 0 and 1 in each of the label columns {', '.join(labels.names)}, got "
                f"{others[0]!r} in {name!r}: task=regression predicts several numbers; to take "
                "one column, name it by data.label_column"
            )


def _refuse_numbers(name: str, found: Sequence[str]) -> None:
    """Raises where labels are numbers that are no classes.

    Raises:
        LabelError: names task=regression.
    """
    numbers = [text for text in found if number(text.replace(",", ".")) is not None]
    different = set(numbers)
    decimals = [text for text in different if not text.lstrip("+-").isdecimal()]
    measured = 2 * len(different) > len(found) and 2 * len(decimals) > len(different) > 2
    many = len(different) > _MOST_GRADES and 2 * len(numbers) > len(found)
    if measured or many:
        raise LabelError(
            f"expected classes in the label column {name!r}, got {len(different)} different "
            f"numbers in {len(found)} bags, such as {', '.join(sorted(different)[:3])}: "
            "task=regression predicts numbers; task.class_names=[...] makes them classes"
        )
