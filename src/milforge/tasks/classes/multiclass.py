"""Several classes, of which each bag has one."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from milforge.data.labels import Labels
from milforge.functional import cross_entropy
from milforge.metrics import CalibrationError, Kind, MacroAUROC, MacroAveragePrecision
from milforge.tasks.base import BagInWords, Columns
from milforge.tasks.classes.class_labels import class_names_of, class_numbers, class_texts
from milforge.tasks.classes.classification import Classification


class Multiclass(Classification):
    """Which of several classes a bag has: a logit of each, whose softmax is its probability.

    Columns: `probability` `(B, C)`.

    Args:
        class_names: the names of the classes, in order; None: found in the labels and sorted.
        class_weights: None, `balanced`, or a weight of each class; see `Classification`.

    Raises:
        ValueError: for fewer than two names.

    Example:
        >>> task = Multiclass()
        >>> task.encode(Labels({"grade": np.array(["2", "10", "2", "3"])}))
        array([0, 2, 0, 1])
        >>> task.class_names, task.num_outputs
        (('2', '3', '10'), 3)
    """

    kind: ClassVar[Kind] = "multiclass"
    one_class: ClassVar[bool] = True
    metric_types: ClassVar[dict[str, type[Metric]]] = {
        "auroc": MacroAUROC,
        "accuracy": MulticlassAccuracy,
        "f1": MulticlassF1Score,
        "ap": MacroAveragePrecision,
        "ece": CalibrationError,
    }

    def __init__(
        self,
        class_names: Sequence[str | float | bool] | None = None,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_names, class_weights)
        if len(self.class_names) == 1:
            raise ValueError(
                f"expected at least two names in task.class_names for task=multiclass, got "
                f"{self.class_names[0]}"
            )

    def encode(self, labels: Labels) -> NDArray[np.int64]:
        """`(n,)`, the numbers of the classes."""
        found = class_texts(labels, self.kind)
        names = self.class_names or class_names_of(labels, found)
        y = class_numbers(found, names, may_add=self._named)
        self._settle(names)
        return y

    def _counts(self, y: Tensor) -> Tensor:
        return y.long().bincount(minlength=len(self.class_names))

    def target(self, y: Tensor) -> Tensor:
        """`(B,)` int64."""
        return y.long()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy."""
        return cross_entropy(logits, target)

    def weight(self, target: Tensor) -> Tensor | None:
        """`(B,)`, the weight of the class of each bag."""
        return None if self.weights is None else self.weights[target]

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """`probability` `(B, C)`."""
        return {"probability": logits.detach().double().softmax(1)}

    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """`preds` `(B, C)`, the probabilities; `target` `(B,)` int64."""
        return {"preds": columns["probability"], "target": target}

    def metrics(self) -> dict[str, Metric]:
        """AUROC, accuracy, F1, average precision and expected calibration error.

        `accuracy` is the share of bags that are right; AUROC, F1 and average precision are means
        over the classes.
        """
        classes = len(self.class_names)
        return {
            "auroc": MacroAUROC("multiclass", classes),
            "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
            "f1": MulticlassF1Score(classes, average="macro", validate_args=False),
            "ap": MacroAveragePrecision("multiclass", classes),
            "ece": CalibrationError("multiclass", classes),
        }

    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """The class, the most probable one, and its probability."""
        probability = columns["probability"]
        predicted = int(probability.argmax())
        names = self.class_names
        return BagInWords(names[int(y)], names[predicted], float(probability[predicted]))
