"""Grades: classes in order."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCohenKappa

from milforge.data.labels import LabelError, Labels
from milforge.functional import conditional_nll, cumulative_nll
from milforge.metrics import MAE
from milforge.plots import plot_confusion
from milforge.tasks.base import BagInWords, Columns, Task
from milforge.tasks.classes.class_labels import class_numbers, class_texts
from milforge.tasks.reading import names_of, number
from milforge.tasks.states import part_of

Method = Literal["coral", "corn"]
_TINY = 1e-7  # float32 rounds what is nearer to 0 or 1


class Ordinal(Task):
    r"""Which of several grades a bag has, whose order counts.

    `coral` has one logit g, and thresholds b that all bags share, parameters of this task; the
    grade is above k with the probability `sigmoid(g + b_k)`. The thresholds are kept in order, so
    that no grade has a negative probability, and begin at the shares of the training part. `corn`
    has K - 1 logits; the grade is above k with the probability `prod_{j<=k} sigmoid(l_j)`.

    Columns: `grade` `(B,)`, the number of k above which it is with a probability above one half,
    written as the labels are where these are numbers; `probability` `(B, K)` of each grade.

    Args:
        method: coral or corn.
        class_names: the grades in order, the lowest first; None: the whole numbers that are found.

    Attributes:
        kind: what is written as `task=`.
        metric_types: the classes of the task's own metrics, by name.
        first: 0-dim parameter, `b_0`, of coral.
        steps: `(K - 2,)` parameter, `b_k - b_{k+1}` is its softplus, of coral.

    Raises:
        ValueError: for another method, or fewer than two names.

    Example:
        >>> task = Ordinal(method="corn")
        >>> task.encode(Labels({"grade": np.array(["2", "3", "4", "2"])}))
        array([0, 1, 2, 0])
        >>> task.predict(torch.tensor([[9.0, -9.0]]))["grade"]
        tensor([3])
    """

    kind: ClassVar[str] = "ordinal"
    metric_types: ClassVar[Mapping[str, type[Metric]]] = {
        "kappa": MulticlassCohenKappa,
        "mae": MAE,
        "accuracy": MulticlassAccuracy,
    }

    def __init__(
        self,
        method: Method = "coral",
        class_names: Sequence[str | float | bool] | None = None,
    ) -> None:
        super().__init__()
        if method not in get_args(Method):
            raise ValueError(f"expected task.method to be coral or corn, got {method!r}")
        self.method = method
        self.class_names = names_of(class_names, "task.class_names")
        if len(self.class_names) == 1:
            raise ValueError(
                f"expected at least two grades in task.class_names, got {self.class_names[0]}"
            )
        self._named = bool(self.class_names)

    def encode(self, labels: Labels) -> NDArray[np.int64]:
        """`(n,)`, from 0 for the lowest grade."""
        found = class_texts(labels, self.kind)
        names = self.class_names or _grades(labels.names[0], found)
        y = class_numbers(found, names, may_add=self._named)
        if not self.is_known:
            self._settle(names)
        return y

    def _settle(self, names: Sequence[str]) -> None:
        self.class_names = tuple(names)
        self.num_outputs = 1 if self.method == "coral" else len(names) - 1
        if self.method == "coral":
            self.first = nn.Parameter(torch.zeros(()))
            self.steps = nn.Parameter(torch.zeros(len(names) - 2))

    def classes(self, y: Tensor) -> Tensor:
        """`(n,)` int64, the grades."""
        return y.long()

    def fit(self, y: Tensor) -> None:
        """Begins the thresholds of coral at the shares of the training part."""
        if self.method != "coral":
            return
        counts = y.long().bincount(minlength=len(self.class_names)).double() + 1
        above = 1 - counts.cumsum(0)[:-1] / counts.sum()
        logits = above.logit()
        gaps = -logits.diff()
        with torch.no_grad():
            self.first.copy_(logits[0])
            self.steps.copy_(gaps + torch.log(-torch.expm1(-gaps)))  # softplus turned round

    def target(self, y: Tensor) -> Tensor:
        """`(B,)` int64."""
        return y.long()

    def _questions(self, logits: Tensor) -> Tensor:
        """`(B, K - 1)` logits of the questions of either loss."""
        if self.method == "corn":
            return logits
        falls = F.pad(F.softplus(self.steps).cumsum(0), (1, 0))
        return logits + (self.first - falls)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The sum over the questions whether the grade is above k."""
        nll = cumulative_nll if self.method == "coral" else conditional_nll
        return nll(self._questions(logits), target)

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """`grade` `(B,)` and `probability` `(B, K)`."""
        above = F.logsigmoid(self._questions(logits.detach().double()))
        return self._columns((above if self.method == "coral" else above.cumsum(1)).exp())

    def _columns(self, above: Tensor) -> dict[str, Tensor]:
        """From `(B, K - 1)` probabilities that the grade is above k."""
        between = -F.pad(F.pad(above, (1, 0), value=1.0), (0, 1)).diff(dim=1)
        grade = (above.detach() > 0.5).sum(1)
        return {
            "grade": self._in_units(grade),
            "probability": between.detach().clamp(min=0).float(),
        }

    def _in_units(self, y: Tensor) -> Tensor:
        numbers = [number(name) for name in self.class_names]
        if any(each is None or each != int(each) for each in numbers):
            return y
        # No table of the numbers: to copy it to a device would be waited for.
        grades = [int(each) for each in numbers if each is not None]
        return torch.stack([(y == place) * grade for place, grade in enumerate(grades)]).sum(0)

    def average(self, members: Sequence[Columns]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the members' probabilities, and the logits that stand for it.

        The logits of members with thresholds of their own have no mean that means anything. The
        single logit of coral is the one whose probabilities are nearest by this task's thresholds.
        """
        above = _above(torch.stack([each["probability"].double() for each in members]).mean(0))
        if self.method == "corn":
            before = F.pad(above[:, :-1], (1, 0), value=1.0)
            logits = (above / before.clamp(min=_TINY)).logit(eps=_TINY)
        else:
            # A probability near 0 or 1 says little of where the logit is.
            weight = (above * (1 - above)).clamp(min=_TINY)
            apart = (
                above.logit(eps=_TINY) - self._questions(above.new_zeros(len(above), 1)).detach()
            )
            logits = (weight * apart).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return logits, self._columns(above)

    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """`preds` and `target` `(B,)` int64, from 0 for the lowest grade."""
        above = _above(columns["probability"].double())
        return {"preds": (above > 0.5).sum(1), "target": target}

    def metrics(self) -> dict[str, Metric]:
        """Quadratic weighted kappa, mean absolute error in grades, accuracy."""
        count = len(self.class_names)
        return {
            "kappa": MulticlassCohenKappa(count, weights="quadratic", validate_args=False),
            "mae": MAE(),
            "accuracy": MulticlassAccuracy(count, average="micro", validate_args=False),
        }

    def metric_options(self) -> dict[str, Any]:
        """`task` and `num_classes`."""
        return {"task": "multiclass", "num_classes": len(self.class_names)}

    def figures(self) -> dict[str, Callable[[Columns, Tensor], Figure]]:
        """The confusion of the grades."""
        return {"confusion": partial(_draw, self)}

    def label_columns(self, y: Tensor) -> dict[str, Tensor]:
        """`label`, as `grade` is written."""
        return {"label": self._in_units(y.long())}

    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """The grade and its probability."""
        place = int(self.inputs({"probability": columns["probability"][None]}, y)["preds"])
        names = self.class_names
        return BagInWords(names[int(y)], names[place], float(columns["probability"][place]))

    def kinds(self, y: Tensor) -> dict[str, Tensor]:
        """The bags of each grade."""
        return {name: y == place for place, name in enumerate(self.class_names)}

    def state(self) -> dict[str, Any]:
        """The method and the grades."""
        names = list(self.class_names)
        return {"kind": self.kind, "method": self.method, "class_names": names}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The task as it was, but for the thresholds."""
        self.method = part_of(state, self.kind, "method")
        self._named = False
        self._settle(part_of(state, self.kind, "class_names"))
        return self


def _above(probability: Tensor) -> Tensor:
    """`(B, K - 1)`, that the grade is above k, of the probabilities `(B, K)` of the grades."""
    return probability.flip(1).cumsum(1).flip(1)[:, 1:]


def _draw(task: Ordinal, columns: Columns, y: Tensor) -> Figure:
    grade = task.inputs(columns, y)["preds"]
    return plot_confusion(F.one_hot(grade, len(task.class_names)).float(), y, task.class_names)


def _grades(name: str, found: Sequence[str]) -> tuple[str, ...]:
    """The whole numbers that are found, which may have no gap.

    Raises:
        LabelError: where they have, or there are words, or one grade alone.
    """
    texts = sorted({text for text in found if text})
    words = [text for text in texts if not text.lstrip("+-").isdecimal()]
    if words:
        raise LabelError(
            f"expected whole numbers as grades in the label column {name!r}, got "
            f"{', '.join(map(repr, words[:3]))}: name all grades in order by task.class_names"
        )
    numbers = sorted(map(int, texts))
    if len(numbers) < 2:
        raise LabelError(
            f"expected at least two grades in the label column {name!r}, got "
            f"{', '.join(texts) or 'none'}"
        )
    gaps = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    if gaps:
        raise LabelError(
            f"expected grades without a gap in the label column {name!r}, got "
            f"{', '.join(map(str, numbers))}: {', '.join(map(str, gaps[:5]))} is missing; name all "
            "grades in order by task.class_names, those without a bag too"
        )
    return tuple(map(str, numbers))
