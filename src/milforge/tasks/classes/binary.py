"""Two classes, of which one is positive."""

import logging
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score

from milforge.data.labels import LabelError, Labels
from milforge.functional import binary_cross_entropy
from milforge.metrics import CalibrationError, Kind, MacroAUROC, MacroAveragePrecision
from milforge.tasks.base import BagInWords, Columns
from milforge.tasks.classes.class_labels import class_names_of, class_numbers, class_texts
from milforge.tasks.classes.classification import Classification
from milforge.tasks.reading import name_of

logger = logging.getLogger(__name__)


class Binary(Classification):
    """Whether a bag is positive: one logit, whose sigmoid is the probability that it is.

    Columns: `probability` `(B, 2)`, of the negative and of the positive class.

    Args:
        class_names: the names of both classes, the negative one first; None: found in the labels
            and sorted.
        positive: the name of the positive class; None: the last of the two.
        class_weights: None, `balanced`, or the weights of the negative and the positive class;
            see `Classification`.

    Raises:
        ValueError: for other than two names.

    Example:
        >>> task = Binary(positive="benign")
        >>> task.encode(Labels({"label": np.array(["malignant", "benign", "benign"])}))
        array([0, 1, 1])
        >>> task.class_names
        ('malignant', 'benign')
        >>> task.predict(torch.tensor([[0.0]]))
        {'probability': tensor([[0.5000, 0.5000]], dtype=torch.float64)}
    """

    kind: ClassVar[Kind] = "binary"
    metric_types: ClassVar[dict[str, type[Metric]]] = {
        "auroc": MacroAUROC,
        "accuracy": BinaryAccuracy,
        "f1": BinaryF1Score,
        "ap": MacroAveragePrecision,
        "ece": CalibrationError,
    }

    def __init__(
        self,
        class_names: Sequence[str | float | bool] | None = None,
        positive: str | float | bool | None = None,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_names, class_weights)
        if self.class_names and len(self.class_names) != 2:
            raise ValueError(
                f"expected two names in task.class_names for task=binary, got "
                f"{', '.join(self.class_names)}"
            )
        self.positive = None if positive is None else name_of(positive, "task.positive")

    def encode(self, labels: Labels) -> NDArray[np.int64]:
        """`(n,)`, 1 for positive bags."""
        found = class_texts(labels, self.kind)
        names = self.class_names or class_names_of(labels, found)
        if self.is_known:  # the order of the classes is not to change any more
            return class_numbers(found, names, may_add=self._named)
        if len(names) > 2:
            raise LabelError(
                f"expected two classes for task=binary, got {len(names)}: {', '.join(names)}; "
                "task=multiclass takes them"
            )
        ordered = self._ordered(names)
        y = class_numbers(found, ordered, may_add=self._named)
        self._settle(ordered)
        if labels.is_text and self.positive is None:
            logger.info(
                "positive class: %r (last of %s); task.positive=... chooses another",
                ordered[1],
                ", ".join(names),
            )
        return y

    def _ordered(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if self.positive is None:
            return names
        if self.positive not in names:
            raise LabelError(
                f"expected task.positive among the classes {', '.join(names)}, got "
                f"{self.positive!r}"
            )
        return tuple(sorted(names, key=lambda name: name == self.positive))

    def _settle(self, names: Sequence[str]) -> None:
        self.class_names, self.num_outputs = tuple(names), 1

    def _counts(self, y: Tensor) -> Tensor:
        return y.long().bincount(minlength=2)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy."""
        return binary_cross_entropy(logits, target)

    def weight(self, target: Tensor) -> Tensor | None:
        """`(B,)`, the weight of the class of each bag."""
        return None if self.weights is None else self.weights[target[:, 0].long()]

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """`probability` `(B, 2)`, of the negative and of the positive class."""
        logits = logits.detach().double()
        # Not 1 - p, which is 0 where p is near 1.
        return {"probability": torch.cat([-logits, logits], 1).sigmoid()}

    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """`preds` `(B,)`, the probability of the positive class; `target` `(B,)` int64."""
        return {"preds": columns["probability"][:, 1], "target": target[:, 0].long()}

    def metrics(self) -> dict[str, Metric]:
        """AUROC, accuracy, F1, average precision and expected calibration error."""
        return {
            "auroc": MacroAUROC("binary"),
            "accuracy": BinaryAccuracy(validate_args=False),
            "f1": BinaryF1Score(validate_args=False),
            "ap": MacroAveragePrecision("binary"),
            "ece": CalibrationError("binary"),
        }

    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """The class, that which has a probability above one half, and that probability."""
        probability = columns["probability"]
        predicted = int(probability[1] > 0.5)
        names = self.class_names
        return BagInWords(names[int(y)], names[predicted], float(probability[predicted]))

    def kinds(self, y: Tensor) -> dict[str, Tensor]:
        """The positive bags, and the negative ones."""
        return dict(reversed(super().kinds(y).items()))

    def is_positive(self, y: Tensor) -> Tensor:
        """The positive bags."""
        return y == 1
