"""What a label means: how it is read, learnt, predicted, measured and drawn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from milforge.data.labels import Labels
from milforge.plots.panels import Panel

# Name to `(B,)` or `(B, K)`, all of the same bags.
Columns = Mapping[str, Tensor]


class BagInWords(NamedTuple):
    """A bag in words, for figures.

    Attributes:
        truth: its label.
        prediction: what is predicted.
        probability: probability of the prediction; None where the task has none.
    """

    truth: str
    prediction: str
    probability: float | None


class Task(nn.Module, ABC):
    """What the label of a bag means.

    Everything that depends on it is asked of this object: how labels are read, the number of
    outputs, the loss, the columns of the predictions, the metrics and the figures. A task is a
    module because it may have parameters and buffers, which a checkpoint then keeps.

    A task is made by a config, without data: `encode` gives it the labels, or `from_state` what it
    knew when a checkpoint was written; only then it has `num_outputs`.

    Attributes:
        num_outputs: number of logits of a bag, `O`.
        class_names: the names of the classes, negative first; empty where there are none.
        monitor: the metric that chooses the epoch where the config names none.
        metric_types: the classes of its own metrics, by name, for what must be known of them
            before there are data.
        input_names: the names of what `inputs` gives.
        whole_batch: whether the loss of a bag depends on the bags beside it. It is then given those
            of the global batch, of all processes together; in evaluation those of the whole part.
        learns_from_outputs: whether `fit_outputs` is to be called.
    """

    num_outputs: int
    class_names: tuple[str, ...] = ()
    monitor: str = "val/loss"
    metric_types: ClassVar[Mapping[str, type[Metric]]] = {}
    input_names: tuple[str, ...] = ("preds", "target")
    whole_batch: bool = False
    learns_from_outputs: bool = False

    @property
    def is_known(self) -> bool:
        """Whether it has seen labels, or what a checkpoint knows of them."""
        return hasattr(self, "num_outputs")

    def resolve(self, labels: Labels) -> "Task":
        """The task for these labels: itself; `Auto` chooses another one by them."""
        return self

    @abstractmethod
    def encode(self, labels: Labels) -> NDArray[Any]:
        """The labels as numbers, of all bags before they are split.

        Args:
            labels: the label columns.

        Returns:
            `y`: `(n,)` int64, or float `(n,)` or `(n, C)`.

        Raises:
            LabelError: where they do not fit the task; where single bags are at fault, it names
                them by their numbers.
        """

    def strata(self, y: NDArray[Any]) -> NDArray[np.int64] | None:
        """`(n,)` or `(n, C)` int64: what folds and random splits spread evenly; None: nothing."""
        classes = self.classes(torch.as_tensor(y))
        return None if classes is None else classes.numpy().astype(np.int64)

    def classes(self, y: Tensor) -> Tensor | None:
        """`(n,)` int64 numbers of classes, or `(n, C)` of 0 and 1; None where there are none."""
        return None

    def fit(self, y: Tensor) -> None:
        """Learns from the labels of the training part, `(n,)` or `(n, C)`."""

    def fit_outputs(self, logits: Tensor, target: Tensor) -> None:
        """Learns from what was said of the training bags: in each epoch, before it is validated.

        Args:
            logits: `(n, O)` as the weights were when each bag was seen: of the bags of all
                processes, on each of them.
            target: as `target` gives it.
        """

    def of_patient(self, y: NDArray[Any]) -> NDArray[Any] | None:
        """What of the labels `(n, ...)` is the same for all bags of a patient; None: nothing."""
        return None

    def teaches(self, y: Tensor) -> bool:
        """Whether a batch of bags with these labels, `(B,)` or `(B, C)`, teaches anything."""
        return True

    def target(self, y: Tensor) -> Tensor:
        """The labels of a batch as losses take them.

        Args:
            y: `(B,)` or `(B, C)`, as a batch has it.

        Returns:
            int64 `(B,)` for a multiclass task, else float32 `(B, O)`.
        """
        return y.float() if y.ndim > 1 else y.float()[:, None]  # also of no bags

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The task's own loss of each bag.

        Args:
            logits: `(B, O)` float.
            target: as `target` gives it.

        Returns:
            `(B,)`.
        """

    def weight(self, target: Tensor) -> Tensor | None:
        """`(B,)` weights of the bags in the loss, of mean 1 over the training part; None: all 1."""
        return None

    @abstractmethod
    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """What is predicted of each bag: the columns of the predictions.

        Args:
            logits: `(B, O)` float32 or float64.

        Returns:
            Name to `(B,)` or `(B, K)`, without gradient. A column of shape `(B, K)` is written as
            K columns, `name_0`, `name_1` and so on.
        """

    def columns(self, logits: Tensor) -> dict[str, Tensor]:
        """What is written of each bag: what `predict` gives, and the `logits` beside it.

        A task that was calibrated after training scales the logits before.

        Args:
            logits: `(B, O)` float32 or float64, of the network.
        """
        return {**self.predict(logits), "logits": logits}

    @abstractmethod
    def average(self, members: Sequence[Columns]) -> tuple[Tensor, dict[str, Tensor]]:
        """What several models predict together.

        Args:
            members: what `predict` gave for each, and its `logits` beside it.

        Returns:
            `(B, O)` logits that this task predicts the averages from, for the loss, and the
            averaged columns.
        """

    @abstractmethod
    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """What metrics are fed with, by the names of the arguments of their `update`.

        Args:
            columns: what `predict` gave.
            target: as `target` gives it.
        """

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """The task's own metrics, by name."""

    def metric_options(self) -> dict[str, Any]:
        """What a metric named in a config may want to know, such as `num_classes`."""
        return {}

    def figures(self) -> dict[str, Callable[[Columns, Tensor], Figure]]:
        """Name to what draws a figure of the columns of all test bags and their `y`."""
        return {}

    def panels(self, columns: Columns, y: Tensor) -> dict[str, Panel]:
        """What a tracker draws itself of the columns of all test bags and their `y`, by name."""
        return {}

    @abstractmethod
    def label_columns(self, y: Tensor) -> dict[str, Tensor]:
        """The labels as columns of the predictions, `(B,)` each; y is `(B,)` or `(B, C)`."""

    @abstractmethod
    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """One bag in words.

        Args:
            columns: name to 0-dim or `(K,)`.
            y: 0-dim or `(C,)`.
        """

    def kinds(self, y: Tensor) -> dict[str, Tensor]:
        """The kinds of bags that are drawn apart: name to `(n,)` bool."""
        return {"": torch.ones(len(y), dtype=torch.bool, device=y.device)}

    def is_positive(self, y: Tensor) -> Tensor:
        """`(B,)` bool: the bags in which positive instances are to be found."""
        return torch.ones(len(y), dtype=torch.bool, device=y.device)

    def state(self) -> dict[str, Any]:
        """What labels and training part have taught it, as plain data for a checkpoint."""
        return {}

    def from_state(self, state: Mapping[str, Any]) -> Self | "Task":
        """The task as it was when `state` was called: itself; `Auto` gives the one chosen then."""
        return self


def numbered_columns(name: str, values: Tensor) -> dict[str, Tensor]:
    """The columns of `values` `(n, C)`, `(n,)` each, under numbered names.

    Example:
        >>> numbered_columns("label", torch.tensor([[1, 0], [0, 0]]))
        {'label_0': tensor([1, 0]), 'label_1': tensor([0, 0])}
    """
    return {f"{name}_{number}": each for number, each in enumerate(values.unbind(1))}
