"""What the tasks share that predict how long until an event, of bags that may be censored."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from milforge.data.labels import LabelError, Labels
from milforge.functional import Steps, kaplan_meier
from milforge.metrics import (
    ConcordanceIndex,
    CumulativeDynamicAUC,
    IntegratedBrierScore,
    UnoConcordanceIndex,
)
from milforge.tasks.base import BagInWords, Columns, Task
from milforge.tasks.states import part_of
from milforge.tasks.time_to_event.censored_labels import read_times
from milforge.tasks.time_to_event.survival_curves import PREFIX, curve_at, median_of
from milforge.tasks.time_to_event.survival_figures import survival_figures


class Survival(Task):
    """The time until an event: two label columns, the time and whether the event happened then.

    Columns: `risk` `(B,)`, high where the time is to be short, less its mean over the training bags
    as each was seen in the last epoch, so that members of other folds can be pooled;
    `survival_<t>` `(B,)`, the probability of living beyond t, for each of `times`; `median_time`
    `(B,)`, at which the survival is one half, NaN where the curve does not come down so far. A loss
    of the config gets `target` `(B, 2)`: the time and the event.

    Args:
        times: at which the survival is predicted and measured, in the unit of the labels; None:
            the deciles of the times of the events in the label table, so that all folds have the
            same.
        unit: of the times, for figures.

    Attributes:
        kind: what is written as `task=`.
        metric_types: the classes of the task's own metrics, by name.
        centre: 0-dim, the mean of what `risk` gives for the training bags in the last epoch, which
            is subtracted from it; in the checkpoint.
        median_risk: 0-dim, the median risk of the training bags in the last epoch, which parts
            risk groups; in the checkpoint.

    Raises:
        ValueError: for times that are not positive and rising, or of more than six digits.
    """

    kind: ClassVar[str]
    metric_types: ClassVar[Mapping[str, type[Metric]]] = {
        "c_index": ConcordanceIndex,
        "c_uno": UnoConcordanceIndex,
        "auc": CumulativeDynamicAUC,
        "ibs": IntegratedBrierScore,
    }
    input_names = ("risk", "time", "event", "survival")
    learns_from_outputs = True
    centre: Tensor
    median_risk: Tensor
    report_times: Tensor

    def __init__(self, times: Sequence[float] | None = None, unit: str | None = None) -> None:
        super().__init__()
        self.times = None if times is None else _checked_times(times)
        self.unit = unit
        self._censoring: tuple[list[float], list[float]] = ([], [])

    def encode(self, labels: Labels) -> NDArray[np.float32]:
        """`(n, 2)`: the time, and 1 where its event has happened."""
        y = read_times(labels, self.kind)
        if not self.is_known:
            self._settle(_report_times(self.times, y, self.kind))
        return y

    def _settle(self, times: Sequence[float]) -> None:
        self.times = tuple(times)
        self.num_outputs = self._outputs()
        for name in ("centre", "median_risk"):
            self.register_buffer(name, torch.zeros(()))
        # On the device beforehand: to copy them to it in each step would be waited for.
        known = torch.tensor(self.times, dtype=torch.float64)
        self.register_buffer("report_times", known, persistent=False)

    @abstractmethod
    def _outputs(self) -> int:
        """Number of logits of a bag."""

    def strata(self, y: NDArray[Any]) -> NDArray[np.int64]:
        """`(n, 2)`: whether the event has happened, and the quarter of the times of such bags."""
        table = np.zeros((len(y), 2), dtype=np.int64)
        table[:, 0] = y[:, 1]
        for happened in (0, 1):
            chosen = y[:, 1] == happened
            if chosen.any():
                cuts = np.quantile(y[chosen, 0], (0.25, 0.5, 0.75))
                table[chosen, 1] = np.searchsorted(cuts, y[chosen, 0], side="right")
        return table

    def fit(self, y: Tensor) -> None:
        """Learns how long the training bags were watched, by which metrics weigh the others.

        Raises:
            ValueError: where nothing happened in the training part.
        """
        time, event = y.double().unbind(1)
        if not bool((event > 0).any()):
            raise ValueError(
                f"expected events in the training part for task={self.kind}, got none in "
                f"{len(y)} bags: look at the event column, or choose another split"
            )
        steps = kaplan_meier(time, event, of_censoring=True)
        self._censoring = steps.times.tolist(), steps.values.tolist()

    def fit_outputs(self, logits: Tensor, target: Tensor) -> None:
        """Takes the mean risk of the training bags, and the median of what is left."""
        self.centre.copy_(self.risk(logits).double().mean())
        self.median_risk.copy_((self.risk(logits) - self.centre).median())

    def of_patient(self, y: NDArray[Any]) -> NDArray[Any]:
        """Time and event: a patient has one of each."""
        return y

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """`risk`, `survival_<t>` for each of the times, `median_time`; `(B,)` each."""
        logits = logits.detach()
        survival = self.survival(logits.double(), self.report_times.double()).float()
        columns = {"risk": (self.risk(logits) - self.centre).float()}
        columns |= dict(zip(self._names, survival.unbind(1), strict=True))
        columns["median_time"] = self.median_time(logits.double()).float()
        return columns

    @abstractmethod
    def risk(self, logits: Tensor) -> Tensor:
        """`(B,)`, high where the time is to be short."""

    @abstractmethod
    def survival(self, logits: Tensor, times: Tensor) -> Tensor:
        """`(B, T)` probability of living beyond each of the times `(T,)`, in float64."""

    @abstractmethod
    def median_time(self, logits: Tensor) -> Tensor:
        """`(B,)` float64, at which the survival is one half; NaN where it stays above."""

    @abstractmethod
    def logits_of(self, survival: Tensor, times: Tensor, members: Sequence[Tensor]) -> Tensor:
        """Logits for the loss of what several models predict together.

        Args:
            survival: `(B, T)`, averaged.
            times: `(T,)`.
            members: the logits of each.
        """

    def average(self, members: Sequence[Columns]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the risks, and of the survival at the times of this task.

        A member that was trained with other times gives its survival at these by straight lines
        between its own. The median time is that of the mean curve; of one member it is its own.
        """
        device = members[0]["risk"].device
        times = torch.tensor(self._times, dtype=torch.float64, device=device)
        curves = torch.stack([curve_at(times, member) for member in members]).mean(0)
        columns = {"risk": torch.stack([each["risk"].double() for each in members]).mean(0).float()}
        columns |= dict(zip(self._names, curves.float().unbind(1), strict=True))
        alone = members[0]["median_time"] if len(members) == 1 else None
        columns["median_time"] = median_of(times, curves).float() if alone is None else alone
        logits = self.logits_of(curves, times, [member["logits"] for member in members])
        return logits, columns

    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """`risk`, `time` and `event` `(B,)`, `survival` `(B, T)`."""
        return {
            "risk": columns["risk"],
            "time": target[:, 0],
            "event": target[:, 1],
            "survival": torch.stack([columns[name] for name in self._names], 1),
        }

    def metrics(self) -> dict[str, Metric]:
        """C of Harrell and of Uno, cumulative/dynamic AUC, integrated Brier score."""
        return {
            "c_index": ConcordanceIndex(),
            "c_uno": UnoConcordanceIndex(self._censoring),
            "auc": CumulativeDynamicAUC(self._times, self._censoring),
            "ibs": IntegratedBrierScore(self._times, self._censoring),
        }

    def metric_options(self) -> dict[str, Any]:
        """`times`, and `censoring`, how long the training bags were watched."""
        return {"times": list(self._times), "censoring": self._censoring}

    def figures(self) -> dict[str, Callable[[Columns, Tensor], Figure]]:
        """Risk groups, curves of some bags, calibration at the middle time, scores over time."""
        times, values = (torch.tensor(each, dtype=torch.float64) for each in self._censoring)
        watched = Steps(times, values)
        return survival_figures(self._times, float(self.median_risk), watched, self.unit)

    def label_columns(self, y: Tensor) -> dict[str, Tensor]:
        """`time`, and `event` of 0 and 1."""
        return {"time": y[:, 0], "event": y[:, 1].long()}

    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """The time, with a plus where it is censored, and the median that is predicted."""
        unit = f" {self.unit}" if self.unit else ""
        median = float(columns["median_time"])
        told = f"beyond {self._times[-1]:g}{unit}" if np.isnan(median) else f"{median:.3g}{unit}"
        return BagInWords(f"{float(y[0]):.3g}{'' if y[1] > 0 else '+'}{unit}", told, None)

    def kinds(self, y: Tensor) -> dict[str, Tensor]:
        """The bags whose event has happened, and those that are censored."""
        return {"event": y[:, 1] > 0, "censored": y[:, 1] == 0}

    def state(self) -> dict[str, Any]:
        """The times, and how long the training bags were watched; the rest is in the weights."""
        watched = [list(each) for each in self._censoring]
        return {"kind": self.kind, "times": list(self._times), "censoring": watched}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The task as it was, but for what is in the weights."""
        times, values = part_of(state, self.kind, "censoring")
        self._censoring = list(times), list(values)
        self._settle(part_of(state, self.kind, "times"))
        return self

    @property
    def _times(self) -> tuple[float, ...]:
        assert self.times is not None, "the task has seen no labels"
        return self.times

    @property
    def _names(self) -> list[str]:
        return [f"{PREFIX}{time:g}" for time in self._times]


def _checked_times(times: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(each) for each in times)
    if not found or found[0] <= 0 or any(a >= b for a, b in pairwise(found)):
        raise ValueError(f"expected task.times above 0 and rising, got {list(times)}")
    long = [each for each in found if float(f"{each:g}") != each]
    if long:  # the columns are named by them
        raise ValueError(f"expected task.times of at most six digits, got {long}: round them")
    return found


def _report_times(
    times: tuple[float, ...] | None, y: NDArray[np.float32], kind: str
) -> tuple[float, ...]:
    """The times at which survival is predicted.

    Raises:
        LabelError: where nothing happened, or one is beyond the data.
    """
    happened = y[y[:, 1] == 1, 0].astype(np.float64)
    if not len(happened):
        raise LabelError(
            f"expected events of 1 for task={kind}, got none in {len(y)} bags: where 1 means "
            "censored, name the column by data.censorship_column"
        )
    last = float(y[:, 0].max())
    if times is None:
        deciles = np.quantile(happened, np.arange(1, 10) / 10)
        rounded = {float(f"{each:.3g}") for each in deciles}
        return tuple(sorted(each for each in rounded if each < last)) or (float(happened.min()),)
    beyond = [f"{each:g}" for each in times if each >= last]
    if beyond:
        raise LabelError(
            f"expected task.times before the last time of the labels, {last:g}, got "
            f"{', '.join(beyond)}: leave them out"
        )
    return times
