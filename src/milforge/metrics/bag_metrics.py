"""The metrics of bag predictions, by task.

Everything here is fed with probabilities. torchmetrics takes a batch with a value outside [0, 1]
for logits and squashes that batch alone, so logits would be treated differently from batch to
batch; the metrics that keep all predictions refuse values outside [0, 1] when they compute.
"""

from abc import abstractmethod
from typing import get_args

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelF1Score,
)
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)
from torchmetrics.utilities import dim_zero_cat

from milforge.data import Task
from milforge.functional.ranking import segment_auroc, segment_average_precision


class _AllPredictions(Metric):
    """A figure of all probabilities and labels of an epoch.

    Both are kept flat and in the metric's own dtype (float32): so a process without a bag can
    stand in for its share with the empty tensor that torchmetrics gathers from it. Without any
    bag, and with NaN among the probabilities, the result is NaN.
    """

    is_differentiable = False
    full_state_update = False

    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self, task: Task, num_classes: int) -> None:
        super().__init__()
        self.task = task
        self.num_classes = num_classes
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the bags of a batch.

        Args:
            preds: probabilities, `(B,)` float of the positive class for a binary task, else
                `(B, C)`.
            target: labels, `(B, C)` of 0 and 1 for a multilabel task, else `(B,)`.

        Raises:
            ValueError: for other shapes.
        """
        size, classes = target.shape[:1], () if self.task == "binary" else (self.num_classes,)
        labels = classes if self.task == "multilabel" else ()
        if preds.shape != (*size, *classes) or target.shape != (*size, *labels):
            raise ValueError(
                f"expected probabilities of shape {('B', *classes)} and labels of shape "
                f"{('B', *labels)} for a {self.task} task, got {tuple(preds.shape)} and "
                f"{tuple(target.shape)}"
            )
        self.preds.append(preds.detach().flatten().to(self.dtype))
        self.target.append(target.flatten().to(self.dtype))

    def compute(self) -> Tensor:
        """The figure, 0-dim float32.

        Raises:
            ValueError: where probabilities lie outside [0, 1], or labels are not those of the
                task.
        """
        if not len(self.preds):
            return torch.tensor(torch.nan, device=self.device)
        columns = 1 if self.task == "binary" else self.num_classes
        preds = dim_zero_cat(self.preds).view(-1, columns)
        target = dim_zero_cat(self.target).long()
        self._check(preds, target)
        if not len(preds) or preds.isnan().any():
            return preds.new_tensor(torch.nan)
        return self._value(preds, target).float()

    def _check(self, preds: Tensor, target: Tensor) -> None:
        if ((preds < 0) | (preds > 1)).any():
            raise ValueError(
                f"expected probabilities, got values from {preds.min():.4g} to {preds.max():.4g}: "
                "apply a sigmoid or softmax to logits first"
            )
        largest = self.num_classes - 1 if self.task == "multiclass" else 1
        if ((target < 0) | (target > largest)).any():
            raise ValueError(
                f"expected labels from 0 to {largest} for a {self.task} task, got values from "
                f"{target.min()} to {target.max()}"
            )

    @abstractmethod
    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        """The figure from `(n, C)` probabilities (C = 1 for a binary task) and flat labels."""

    def _class_table(self, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and labels of each class against the rest, as a packed batch of classes."""
        if self.task == "multiclass":
            table = target[:, None] == torch.arange(self.num_classes, device=target.device)
        else:
            table = target.view(preds.shape)
        ptr = torch.arange(preds.shape[1] + 1, device=preds.device) * len(preds)
        return preds.T.flatten(), table.T.flatten().long(), ptr


class MacroAUROC(_AllPredictions):
    """Area under the ROC curve, exact: of the positive class, or the mean over the classes.

    Each class is ranked against the rest. A class of which only one kind of label is there has no
    area and is left out of the mean; where no class has both, the metric is NaN (torchmetrics
    takes such an area for 0 and warns).

    Args:
        task: binary, multiclass or multilabel.
        num_classes: number of classes `C`; not used for a binary task.

    Example:
        >>> metric = MacroAUROC("binary", 2)
        >>> metric.update(torch.tensor([0.2, 0.7, 0.4]), torch.tensor([0, 1, 0]))
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = True

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        return segment_auroc(*self._class_table(preds, target)).nanmean()


class MacroAveragePrecision(_AllPredictions):
    """Average precision, exact: of the positive class, or the mean over the classes.

    Each class is ranked against the rest. A class of which only one kind of label is there is left
    out of the mean; where no class has both, the metric is NaN.

    Args:
        task: binary, multiclass or multilabel.
        num_classes: number of classes `C`; not used for a binary task.

    Example:
        >>> metric = MacroAveragePrecision("binary", 2)
        >>> metric.update(torch.tensor([0.2, 0.7, 0.4]), torch.tensor([0, 0, 1]))
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = True

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        return segment_average_precision(*self._class_table(preds, target)).nanmean()


class CalibrationError(_AllPredictions):
    """Expected calibration error in 15 bins of equal width, `sum_k n_k / n |p_k - a_k|`.

    For a multiclass task `p` is the probability of the predicted class and `a` whether it is
    right; for a binary task `p` is the probability of the positive class and `a` the label; for
    a multilabel task likewise, over all pairs of a bag and a class. By torchmetrics.

    Args:
        task: binary, multiclass or multilabel.
        num_classes: number of classes `C`; not used for a binary task.

    Example:
        >>> metric = CalibrationError("binary", 2)
        >>> metric.update(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1, 1, 1, 0]))
        >>> metric.compute()
        tensor(0.1500)
    """

    higher_is_better = False

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        if self.task == "multiclass":
            return multiclass_calibration_error(
                preds, target, self.num_classes, n_bins=15, norm="l1", validate_args=False
            )
        return binary_calibration_error(
            preds.flatten(), target, n_bins=15, norm="l1", validate_args=False
        )


def bag_metrics(task: Task, num_classes: int) -> MetricCollection:
    """The metrics of a task's bag predictions: `auroc`, `accuracy`, `f1`, `ap` and `ece`.

    `update` takes probabilities, `(B,)` for a binary task and `(B, C)` for the others, and int64
    labels, `(B,)`, or `(B, C)` of 0 and 1 for a multilabel task. `auroc`, `ap` and `f1` are means
    over the classes where there are several; `accuracy` is the share of bags that are right, for a
    multilabel task its mean over the classes; a probability above 0.5 is a prediction.

    `auroc`, `ap` and `ece` share one copy of all predictions of the epoch, and check it when they
    compute; nothing is checked batch by batch that would make a GPU wait.

    Args:
        task: binary, multiclass or multilabel.
        num_classes: number of classes `C`; not used for a binary task.

    Raises:
        ValueError: for a task that there is not, or too few classes for it.

    Example:
        >>> metrics = bag_metrics("binary", 2).clone(prefix="val/")
        >>> metrics.update(torch.tensor([0.2, 0.7, 0.4]), torch.tensor([0, 1, 0]))
        >>> sorted(metrics.compute())
        ['val/accuracy', 'val/ap', 'val/auroc', 'val/ece', 'val/f1']
    """
    accuracy: Metric
    f1: Metric
    counts = [["accuracy", "f1"]]
    match task:
        case "binary":
            accuracy = BinaryAccuracy(validate_args=False)
            f1 = BinaryF1Score(validate_args=False)
        case "multiclass":
            counts = [["accuracy"], ["f1"]]  # over all bags, and class by class
            accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
            f1 = MulticlassF1Score(num_classes, average="macro", validate_args=False)
        case "multilabel":
            accuracy = MultilabelAccuracy(num_classes, average="macro", validate_args=False)
            f1 = MultilabelF1Score(num_classes, average="macro", validate_args=False)
        case _:
            raise ValueError(f"expected task to be one of {get_args(Task)}, got {task!r}")
    least = {"binary": 0, "multiclass": 2, "multilabel": 1}[task]
    if num_classes < least:
        raise ValueError(f"expected num_classes >= {least} for a {task} task, got {num_classes}")
    return MetricCollection(
        {
            "auroc": MacroAUROC(task, num_classes),
            "accuracy": accuracy,
            "f1": f1,
            "ap": MacroAveragePrecision(task, num_classes),
            "ece": CalibrationError(task, num_classes),
        },
        # Given, not found out at the first update: a process that never has one needs them too.
        # The first group goes first, so that wrong shapes get its error.
        compute_groups=[["auroc", "ap", "ece"], *counts],
    )
