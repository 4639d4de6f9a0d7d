"""Several labels, any of which a bag may have."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MultilabelAccuracy, MultilabelF1Score

from milforge.data.labels import LabelError, Labels
from milforge.functional import binary_cross_entropy
from milforge.metrics import CalibrationError, Kind, MacroAUROC, MacroAveragePrecision
from milforge.tasks.base import BagInWords, Columns, numbered_columns
from milforge.tasks.classes.classification import Classification
from milforge.tasks.reading import (
    Problem,
    columns_named,
    missing_problem,
    number,
    raise_problems,
    texts,
)
from milforge.tasks.states import part_of


class Multilabel(Classification):
    """Which of several labels a bag has: a logit of each, whose sigmoid is its probability.

    The labels are columns of 0 and 1. Columns of the predictions: `probability` `(B, C)`. The
    loss of a bag is the mean over its labels; where they are balanced, each is weighted first, by
    its presence or absence.

    Args:
        class_names: the names of the labels, in the order of the columns; None: those of the
            columns.
        class_weights: None or `balanced`; a bag has no single class to weigh.

    Raises:
        ValueError: for a list of weights.

    Example:
        >>> task = Multilabel()
        >>> task.encode(Labels({"er": np.array(["1", "0"]), "pr": np.array(["1", "1"])}))
        array([[1, 1],
               [0, 1]])
        >>> task.class_names, task.num_outputs
        (('er', 'pr'), 2)
    """

    kind: ClassVar[Kind] = "multilabel"
    metric_types: ClassVar[dict[str, type[Metric]]] = {
        "auroc": MacroAUROC,
        "accuracy": MultilabelAccuracy,
        "f1": MultilabelF1Score,
        "ap": MacroAveragePrecision,
        "ece": CalibrationError,
    }

    def __init__(
        self,
        class_names: Sequence[str | float | bool] | None = None,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_names, class_weights)
        if self.class_weights not in (None, "balanced"):
            raise ValueError(
                "expected task.class_weights to be null or balanced for task=multilabel, got a "
                "list: a bag has no single class to weigh"
            )
        self._columns: tuple[str, ...] = ()

    def encode(self, labels: Labels) -> NDArray[np.int64]:
        """`(n, C)` of 0 and 1."""
        columns = self._columns or labels.names
        names = self.class_names or columns
        if len(names) != len(columns):
            raise LabelError(
                f"expected in task.class_names a name of each of the label columns "
                f"{', '.join(columns)}, got {', '.join(names)}"
            )
        y = np.zeros((len(labels), len(columns)), dtype=np.int64)
        problems: dict[int, Problem] = {}
        for place, (name, column) in enumerate(
            zip(columns, columns_named(labels, columns), strict=True)
        ):
            for row, text in enumerate(texts(column)):
                value = number(text)
                if value in (0, 1):
                    y[row, place] = value
                elif not text:
                    problems.setdefault(row, missing_problem(f"0 or 1 in the column {name!r}"))
                else:
                    message = f"expected 0 or 1 in the column {name!r}, got {text!r}"
                    problems.setdefault(row, (message, "mend it, or remove the row"))
        raise_problems(problems)
        self._columns = columns
        self._settle(names)
        return y

    def _counts(self, y: Tensor) -> Tensor:
        present = y.long().sum(0)
        return torch.stack([len(y) - present, present], 1)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over the labels."""
        if self.weights is None:
            return binary_cross_entropy(logits, target)
        losses = F.binary_cross_entropy_with_logits(
            logits, target.to(logits.dtype), reduction="none"
        )
        absence, presence = self.weights.unbind(1)
        return (losses * torch.where(target == 1, presence, absence)).mean(1)

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """`probability` `(B, C)`."""
        return {"probability": logits.detach().double().sigmoid()}

    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """`preds` `(B, C)`, the probabilities; `target` `(B, C)` int64."""
        return {"preds": columns["probability"], "target": target.long()}

    def metrics(self) -> dict[str, Metric]:
        """AUROC, accuracy, F1, average precision and expected calibration error.

        All but the last are means over the labels.
        """
        labels = len(self.class_names)
        return {
            "auroc": MacroAUROC("multilabel", labels),
            "accuracy": MultilabelAccuracy(labels, average="macro", validate_args=False),
            "f1": MultilabelF1Score(labels, average="macro", validate_args=False),
            "ap": MacroAveragePrecision("multilabel", labels),
            "ece": CalibrationError("multilabel", labels),
        }

    def metric_options(self) -> dict[str, Any]:
        """`num_labels` too, the same number."""
        return {**super().metric_options(), "num_labels": len(self.class_names)}

    def label_columns(self, y: Tensor) -> dict[str, Tensor]:
        """`label_0`, `label_1` and so on, of 0 and 1."""
        return numbered_columns("label", y.long())

    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """The labels, those with a probability above one half, and the probability of them all."""
        probability = columns["probability"]
        present = probability > 0.5
        of_all = torch.where(present, probability, 1 - probability).prod()
        return BagInWords(self._joined(y == 1), self._joined(present), float(of_all))

    def _joined(self, present: Tensor) -> str:
        here = zip(self.class_names, present.tolist(), strict=True)
        return ", ".join(name for name, is_here in here if is_here) or "none"

    def kinds(self, y: Tensor) -> dict[str, Tensor]:
        """The bags with each label, and those with none."""
        found = {name: y[:, number] == 1 for number, name in enumerate(self.class_names)}
        found.setdefault("none", (y != 1).all(1))
        return found

    def state(self) -> dict[str, Any]:
        """The names of the columns too."""
        return {**super().state(), "columns": list(self._columns)}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The task as it was."""
        self._columns = tuple(part_of(state, self.kind, "columns"))
        return super().from_state(state)
