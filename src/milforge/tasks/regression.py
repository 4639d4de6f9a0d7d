"""Numbers to be predicted: an age, a score, a survival in months without censoring."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from milforge.data.labels import LabelError, Labels
from milforge.functional import mean_squared_error
from milforge.metrics import MAE, R2, RMSE, Pearson, Spearman
from milforge.plots import plot_predicted
from milforge.tasks.base import BagInWords, Columns, Task, numbered_columns
from milforge.tasks.reading import (
    Problem,
    columns_named,
    missing_problem,
    number,
    raise_problems,
    texts,
)
from milforge.tasks.states import part_of


class Regression(Task):
    """A number, or several in as many label columns: a logit of each.

    Logits and targets of the loss are standardised by the mean and the standard deviation of the
    training part; a loss of the config sees them so too. Columns: `prediction` `(B,)`, of several
    outputs `(B, O)`, in the unit of the labels, as the metrics are.

    Args:
        scale: whether to standardise.

    Attributes:
        kind: what is written as `task=`.
        metric_types: the classes of the task's own metrics, by name.
        mean: `(O,)` what is subtracted from the labels, in the checkpoint.
        std: `(O,)` what they are divided by then, in the checkpoint.

    Example:
        >>> task = Regression()
        >>> y = torch.as_tensor(task.encode(Labels({"age": np.array(["40", "60"])})))
        >>> task.fit(y)
        >>> task.target(y)
        tensor([[-1.],
                [ 1.]])
        >>> task.predict(torch.tensor([[0.5]]))
        {'prediction': tensor([55.])}
    """

    kind: ClassVar[str] = "regression"
    metric_types: ClassVar[Mapping[str, type[Metric]]] = {
        "mae": MAE,
        "rmse": RMSE,
        "r2": R2,
        "pearson": Pearson,
        "spearman": Spearman,
    }
    mean: Tensor
    std: Tensor

    def __init__(self, scale: bool = True) -> None:
        super().__init__()
        self.scale = scale
        self._columns: tuple[str, ...] = ()

    def encode(self, labels: Labels) -> NDArray[np.float32]:
        """`(n,)`, or `(n, O)` of several columns."""
        names = self._columns or labels.names
        y = np.zeros((len(labels), len(names)), dtype=np.float32)
        problems: dict[int, Problem] = {}
        for place, (name, column) in enumerate(
            zip(names, columns_named(labels, names), strict=True)
        ):
            found = texts(column)
            _refuse_words(name, found)
            for row, text in enumerate(found):
                value = number(text)
                if value is None:
                    problems.setdefault(row, _problem(name, text))
                else:
                    y[row, place] = value
        raise_problems(problems)
        if not self._columns:
            _refuse_constant(names, y)
            self._settle(names)
        return y[:, 0] if len(names) == 1 else y

    def _settle(self, columns: Sequence[str]) -> None:
        self._columns, self.num_outputs = tuple(columns), len(columns)
        self.register_buffer("mean", torch.zeros(self.num_outputs))
        self.register_buffer("std", torch.ones(self.num_outputs))

    def fit(self, y: Tensor) -> None:
        """Takes mean and standard deviation of the training part; labels all alike are not scaled.

        Raises:
            ValueError: where there are no labels.
        """
        if not self.scale:
            return
        if not len(y):
            raise ValueError("expected labelled training bags to scale the labels by, got none")
        table = y.double().reshape(len(y), -1)
        std, alike = table.std(0, correction=0), (table == table[0]).all(0)
        self.mean.copy_(table.mean(0))
        self.std.copy_(std.masked_fill(alike, 1.0))

    def target(self, y: Tensor) -> Tensor:
        """`(B, O)` float32, standardised."""
        return (super().target(y) - self.mean) / self.std

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Squared error on the standardised scale, the mean over the outputs."""
        return mean_squared_error(logits, target)

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """`prediction` `(B,)` or `(B, O)`, in the unit of the labels."""
        return {"prediction": self._alone(self._in_units(logits.detach()).float())}

    def average(self, members: Sequence[Columns]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the members' predictions, each of which has a scale of its own."""
        mean = torch.stack([member["prediction"].double() for member in members]).mean(0)
        logits = (mean.reshape(len(mean), -1) - self.mean) / self.std
        return logits, {"prediction": mean.float()}

    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """`preds` and `target`, `(B,)` or `(B, O)` each, in the unit of the labels."""
        return {
            "preds": columns["prediction"],
            "target": self._alone(self._in_units(target)),
        }

    def metrics(self) -> dict[str, Metric]:
        """Errors in the unit of the labels, R2 and correlations; of each output."""
        outputs = self.num_outputs
        return {
            "mae": MAE(outputs),
            "rmse": RMSE(outputs),
            "r2": R2(outputs),
            "pearson": Pearson(outputs),
            "spearman": Spearman(outputs),
        }

    def metric_options(self) -> dict[str, Any]:
        """`num_outputs`."""
        return {"num_outputs": self.num_outputs}

    def figures(self) -> dict[str, Callable[[Columns, Tensor], Figure]]:
        """The predictions against the labels."""
        return {"predicted": partial(_draw, self._columns)}

    def label_columns(self, y: Tensor) -> dict[str, Tensor]:
        """`label`, of several outputs `label_0`, `label_1` and so on."""
        if self.num_outputs == 1:
            return {"label": y.reshape(len(y))}
        return numbered_columns("label", y)

    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """Numbers of three digits."""
        return BagInWords(_in_words(y), _in_words(columns["prediction"]), None)

    def state(self) -> dict[str, Any]:
        """The names of the columns; the scale is in the weights."""
        return {"kind": self.kind, "columns": list(self._columns)}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The task as it was, but for the scale."""
        self._settle(part_of(state, self.kind, "columns"))
        return self

    def _in_units(self, standardised: Tensor) -> Tensor:
        return standardised * self.std + self.mean

    def _alone(self, table: Tensor) -> Tensor:
        """`(B, O)`; of a single output `(B,)`."""
        return table[:, 0] if self.num_outputs == 1 else table


def _draw(names: Sequence[str], columns: Columns, y: Tensor) -> Figure:
    return plot_predicted(columns["prediction"], y, names)


def _in_words(values: Tensor) -> str:
    """Three digits; more where a whole number has more, such as a year.

    Example:
        >>> _in_words(torch.tensor(2019.4)), _in_words(torch.tensor([0.12345, 1e9]))
        ('2019', '0.123, 1e+09')
    """
    each = values.reshape(-1).tolist()
    return ", ".join(f"{v:.0f}" if 99.5 <= abs(v) < 1e6 else f"{v:.3g}" for v in each)


def _refuse_words(name: str, found: Sequence[str]) -> None:
    """Raises where a column holds no number at all.

    Raises:
        LabelError: with some of what it holds.
    """
    words = list(dict.fromkeys(text for text in found if text))
    if words and all(number(word.replace(",", ".")) is None for word in words):
        raise LabelError(
            f"expected numbers in the label column {name!r} for task=regression, got "
            f"{', '.join(map(repr, words[:3]))}{' ...' if len(words) > 3 else ''}: task=auto "
            "finds the classes of words"
        )


def _refuse_constant(names: Sequence[str], y: NDArray[np.float32]) -> None:
    """Raises where several bags all have the same number.

    Raises:
        LabelError: names the column.
    """
    for name, column in zip(names, y.T, strict=True):
        if len(column) > 1 and (column == column[0]).all():
            raise LabelError(
                f"expected different numbers in the label column {name!r}, got {column[0]:g} for "
                f"all {len(column)} bags: there is nothing to learn; name another column"
            )


def _problem(name: str, text: str) -> Problem:
    """What is wrong with a cell that holds no number."""
    if not text:
        return missing_problem(f"a number in the column {name!r}")
    message = f"expected a number in the column {name!r}, got {text!r}"
    point = text.replace(",", ".")
    if number(point) is not None:
        return message, f"write {point}, with a decimal point"
    return message, "mend it, or remove the row"
