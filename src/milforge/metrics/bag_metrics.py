"""Metrics of the probabilities of bags, exact over all bags of an epoch.

Everything here is fed with probabilities. torchmetrics takes a batch with a value outside [0, 1]
for logits and squashes that batch alone, so logits would be treated differently from batch to
batch; these metrics refuse values outside [0, 1] when they compute.
"""

from abc import abstractmethod
from collections.abc import Hashable
from typing import Literal, get_args

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from milforge.functional.ranking import segment_auroc, segment_average_precision
from milforge.metrics.all_predictions import AllPredictions

Kind = Literal["binary", "multiclass", "multilabel"]


class _Probabilities(AllPredictions):
    """A figure of all probabilities and labels of an epoch; see `AllPredictions`."""

    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, task: Kind, num_classes: int = 2, figures: int | None = None) -> None:
        if task not in get_args(Kind):
            raise ValueError(f"expected task to be one of {get_args(Kind)}, got {task!r}")
        least = {"binary": 0, "multiclass": 2, "multilabel": 1}[task]
        if num_classes < least:
            raise ValueError(
                f"expected num_classes >= {least} for a {task} task, got {num_classes}"
            )
        super().__init__(1 if task == "binary" else num_classes, figures)
        self.task = task
        self.num_classes = num_classes

    @property
    def dtype(self) -> torch.dtype:
        """Float64, in which bags of large logits do not tie.

        Not set by `set_dtype`, which the next move to a device undoes.
        """
        return torch.float64

    @property
    def keeps(self) -> Hashable:
        """Probabilities of a task of so many columns."""
        return "probabilities", self.task, self.columns

    def check_shapes(self, preds: Tensor, target: Tensor) -> None:
        """Refuses a batch of other shapes."""
        size, classes = target.shape[:1], () if self.task == "binary" else (self.num_classes,)
        labels = classes if self.task == "multilabel" else ()
        if preds.shape != (*size, *classes) or target.shape != (*size, *labels):
            raise ValueError(
                f"expected probabilities of shape {('B', *classes)} and labels of shape "
                f"{('B', *labels)} for a {self.task} task, got {tuple(preds.shape)} and "
                f"{tuple(target.shape)}"
            )

    def check_values(self, preds: Tensor, target: Tensor) -> None:
        """Refuses what are no probabilities, and labels of another task."""
        if ((preds < 0) | (preds > 1)).any():
            raise ValueError(
                f"expected probabilities, got values from {preds.min():.4g} to {preds.max():.4g}: "
                "apply a sigmoid or softmax to logits first"
            )
        largest = self.num_classes - 1 if self.task == "multiclass" else 1
        if ((target < 0) | (target > largest)).any():
            raise ValueError(
                f"expected labels from 0 to {largest} for a {self.task} task, got values from "
                f"{target.min():g} to {target.max():g}"
            )


class _Ranking(_Probabilities):
    """A figure of the ranking of the bags, of each class against the rest."""

    higher_is_better = True

    def __init__(
        self, task: Kind, num_classes: int = 2, average: Literal["macro"] | None = "macro"
    ) -> None:
        if average not in ("macro", None):
            raise ValueError(f"expected average to be macro or null, got {average!r}")
        of_each = 1 if task == "binary" else num_classes
        super().__init__(task, num_classes, of_each if average is None else None)
        self.average = average

    @staticmethod
    @abstractmethod
    def _per_class(scores: Tensor, labels: Tensor, ptr: Tensor) -> Tensor:
        """The figure of each class, `(C,)`, from a packed batch of them."""

    def figure(self, preds: Tensor, target: Tensor) -> Tensor:
        """The figure of each class, or their mean."""
        if self.task == "multiclass":
            table = target[:, None] == torch.arange(self.num_classes, device=target.device)
        else:
            table = target.view(preds.shape)
        ptr = torch.arange(preds.shape[1] + 1, device=preds.device) * len(preds)
        values = self._per_class(preds.T.flatten(), table.T.flatten().long(), ptr)
        return values if self.average is None else values.nanmean()


class MacroAUROC(_Ranking):
    """Area under the ROC curve, exact: of the positive class, or the mean over the classes.

    Each class is ranked against the rest. A class of which only one kind of label is there has no
    area and is left out of the mean; where no class has both, the metric is NaN (torchmetrics
    takes such an area for 0 and warns).

    Args:
        task: binary, multiclass or multilabel.
        num_classes: number of classes `C`; not used for a binary task.
        average: macro, the mean; None: the value of each class, `(C,)`, NaN where it has none. A
            binary task has one value.

    Example:
        >>> metric = MacroAUROC("binary")
        >>> metric.update(torch.tensor([0.2, 0.7, 0.4]), torch.tensor([0, 1, 0]))
        >>> metric.compute()
        tensor(1.)
    """

    _per_class = staticmethod(segment_auroc)


class MacroAveragePrecision(_Ranking):
    """Average precision, exact: of the positive class, or the mean over the classes.

    Each class is ranked against the rest. A class of which only one kind of label is there is left
    out of the mean; where no class has both, the metric is NaN.

    Args:
        task: binary, multiclass or multilabel.
        num_classes: number of classes `C`; not used for a binary task.
        average: as of `MacroAUROC`.

    Example:
        >>> metric = MacroAveragePrecision("binary")
        >>> metric.update(torch.tensor([0.2, 0.7, 0.4]), torch.tensor([0, 0, 1]))
        >>> metric.compute()
        tensor(0.5000)
    """

    _per_class = staticmethod(segment_average_precision)


class CalibrationError(_Probabilities):
    """Expected calibration error in 15 bins of equal width, `sum_k n_k / n |p_k - a_k|`.

    For a multiclass task `p` is the probability of the predicted class and `a` whether it is
    right; for a binary task `p` is the probability of the positive class and `a` the label; for
    a multilabel task the same, over all pairs of a bag and a class. By torchmetrics.

    Args:
        task: binary, multiclass or multilabel.
        num_classes: number of classes `C`; not used for a binary task.

    Example:
        >>> metric = CalibrationError("binary")
        >>> metric.update(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1, 1, 1, 0]))
        >>> metric.compute()
        tensor(0.1500)
    """

    higher_is_better = False

    def __init__(self, task: Kind, num_classes: int = 2) -> None:
        super().__init__(task, num_classes)

    def figure(self, preds: Tensor, target: Tensor) -> Tensor:
        """The error."""
        # Torchmetrics makes its bins in the dtype of the probabilities: float32, as elsewhere.
        preds, target = preds.float(), target.long()
        if self.task == "multiclass":
            return multiclass_calibration_error(
                preds, target, self.num_classes, n_bins=15, norm="l1", validate_args=False
            )
        return binary_calibration_error(
            preds.flatten(), target, n_bins=15, norm="l1", validate_args=False
        )
