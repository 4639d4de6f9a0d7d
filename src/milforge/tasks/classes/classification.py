"""What the tasks with classes share."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from milforge.metrics import Kind
from milforge.plots import plot_confusion, plot_roc_pr
from milforge.plots.panels import Panel, class_panels
from milforge.tasks.base import Columns, Task
from milforge.tasks.classes.calibration import Calibration
from milforge.tasks.classes.class_weights import balanced, checked_weights, of_mean_one
from milforge.tasks.classes.mean import logits_of_mean
from milforge.tasks.reading import names_of
from milforge.tasks.states import part_of


class Classification(Task):
    """A task that predicts the probability of each class, in a column `probability` `(B, C)`.

    It is float64: in float32 it is 1 from a logit of about 17 on, so that bags of which a network
    is sure would tie in all that ranks them. In float64 it is so from about 37 on.

    Args:
        class_names: the names of the classes, in order; None: found in the labels.
        class_weights: how much the bags of each class count in the loss: None, all alike;
            `balanced`, `n / (C n_c)`, so that all classes count alike; or a weight of each, in
            the order of the classes. They are scaled to mean 1 over the training part.

    Attributes:
        kind: what is written as `task=`.
        one_class: whether a bag has exactly one of the O classes that have logits.
        metric_types: the classes of the task's own metrics, by name.
        weights: `(C,)`, known after `fit`; None where all bags count alike.
        calibration: what `milforge-calibrate` fitted; None: nothing.
    """

    kind: ClassVar[Kind]
    one_class: ClassVar[bool] = False
    metric_types: ClassVar[Mapping[str, type[Metric]]]
    weights: Tensor | None
    calibration: Calibration | None = None

    def __init__(
        self,
        class_names: Sequence[str | float | bool] | None = None,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.class_names = names_of(class_names, "task.class_names")
        self.class_weights = checked_weights(class_weights)
        self._named = bool(self.class_names)  # by the config
        self.register_buffer("weights", None, persistent=False)  # `state` has them

    def _settle(self, names: Sequence[str]) -> None:
        """Sets the classes and the number of outputs: one for each class."""
        self.class_names, self.num_outputs = tuple(names), len(names)

    @abstractmethod
    def _counts(self, y: Tensor) -> Tensor:
        """`(C,)` the bags of each class, or `(C, 2)` those without and with each label."""

    def fit(self, y: Tensor) -> None:
        """Weighs the classes by the bags of the training part.

        Raises:
            ValueError: where a class to be balanced has no bag, or weights do not fit the classes.
        """
        if self.class_weights is None:
            return
        counts = self._counts(y)
        if self.class_weights == "balanced":
            self.weights = balanced(counts, self.class_names)
            return
        if len(self.class_weights) != len(self.class_names):
            raise ValueError(
                f"expected in task.class_weights a weight of each of the classes "
                f"{', '.join(self.class_names)}, got {len(self.class_weights)}"
            )
        self.weights = of_mean_one(torch.tensor(self.class_weights, device=y.device), counts)

    def classes(self, y: Tensor) -> Tensor:
        """`(n,)` int64 numbers of classes, or `(n, C)` of 0 and 1."""
        return y.long()

    def columns(self, logits: Tensor) -> dict[str, Tensor]:
        """As the base class says; of a calibrated task after its temperature.

        Where it has conformal thresholds, `in_set` `(B, C)` bool says which classes are in the
        set of each bag.
        """
        if self.calibration is None:
            return super().columns(logits)
        columns = super().columns(self.calibration.scaled(logits))
        if self.calibration.thresholds is not None:
            columns["in_set"] = self.calibration.sets(columns["probability"])
        return columns

    def average(self, members: Sequence[Columns]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the members' probabilities."""
        each = [member["logits"] for member in members]
        logits = logits_of_mean(each, one_class=self.one_class)
        return logits, self.predict(logits)

    def metric_options(self) -> dict[str, Any]:
        """`task` and `num_classes`."""
        return {"task": self.kind, "num_classes": len(self.class_names)}

    def figures(self) -> dict[str, Callable[[Columns, Tensor], Figure]]:
        """ROC and precision-recall, and the confusion matrix."""
        plots = {"roc_pr": plot_roc_pr, "confusion": plot_confusion}
        return {name: partial(_draw, plot, self.class_names) for name, plot in plots.items()}

    def panels(self, columns: Columns, y: Tensor) -> dict[str, Panel]:
        """`roc`, `pr`, `confusion` and `per_class`."""
        return class_panels(columns["probability"], y, self.class_names)

    def label_columns(self, y: Tensor) -> dict[str, Tensor]:
        """`label`, the number of the class."""
        return {"label": y.long()}

    def kinds(self, y: Tensor) -> dict[str, Tensor]:
        """The bags of each class."""
        return {name: y == number for number, name in enumerate(self.class_names)}

    def state(self) -> dict[str, Any]:
        """The kind of task, the names of the classes, their weights, and the calibration."""
        weights = None if self.weights is None else self.weights.tolist()
        state: dict[str, Any] = {
            "kind": self.kind,
            "class_names": list(self.class_names),
            "weights": weights,
        }
        if self.calibration is not None:
            state["calibration"] = self.calibration.state()
        return state

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The task as it was."""
        self._settle(part_of(state, self.kind, "class_names"))
        self._named = False
        weights = part_of(state, self.kind, "weights")
        self.weights = None if weights is None else torch.tensor(weights)
        self.calibration = Calibration.from_state(state.get("calibration"), len(self.class_names))
        return self


def _draw(
    plot: Callable[[Tensor, Tensor, Sequence[str]], Figure],
    class_names: Sequence[str],
    columns: Columns,
    y: Tensor,
) -> Figure:
    return plot(columns["probability"], y, class_names)
