"""Metrics of predicted risks and survival, exact over all bags of an epoch.

Times are kept in the metric's own dtype (float32): times that are one there are one here. Results
are float64. A process without a bag takes part with empty tensors.
"""

import logging
from abc import abstractmethod
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from milforge.functional.time_to_event.censoring import Steps
from milforge.functional.time_to_event.concordance import concordance_index
from milforge.functional.time_to_event.survival_scores import (
    brier_score,
    cumulative_dynamic_auc,
    integrated,
)

logger = logging.getLogger(__name__)

Curve = Sequence[Sequence[float]]


class _AllTimes(Metric):
    """A figure of all times of an epoch and of what was predicted for them."""

    is_differentiable = False
    full_state_update = False

    predicted: list[Tensor]
    time: list[Tensor]
    event: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("predicted", "time", "event"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def _add(self, predicted: Tensor, time: Tensor, event: Tensor) -> None:
        self.predicted.append(predicted.detach().flatten().to(self.dtype))
        self.time.append(time.detach().to(self.dtype))
        self.event.append(event.detach().to(self.dtype))

    def compute(self) -> Tensor:
        """The figure, float64; NaN without bags, and with NaN among the predictions."""
        if not len(self.time):
            return self._nothing()
        time, event = dim_zero_cat(self.time), dim_zero_cat(self.event)
        predicted = dim_zero_cat(self.predicted)
        if not len(time) or predicted.isnan().any():
            return self._nothing()
        return self._figure(predicted.view(len(time), -1), time, event)

    def _nothing(self) -> Tensor:
        return torch.full((), torch.nan, dtype=torch.float64, device=self.device)

    @abstractmethod
    def _figure(self, predicted: Tensor, time: Tensor, event: Tensor) -> Tensor:
        """From `(n, K)` predictions, `(n,)` times and events of at least one bag."""


class _Ranked(_AllTimes):
    """A figure of the ranking of the bags by risk."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    @property
    def keeps(self) -> Hashable:
        """Risks and times: metrics that keep them may keep one copy; see `build_metrics`."""
        return "risks"

    def update(self, risk: Tensor, time: Tensor, event: Tensor) -> None:
        """Add the bags of a batch.

        Args:
            risk: `(B,)` float, high where the time is to be short.
            time: `(B,)` float.
            event: `(B,)`, 1 where the event has happened, 0 where the bag is censored.

        Raises:
            ValueError: for other shapes.
        """
        if risk.ndim != 1 or time.shape != risk.shape or event.shape != risk.shape:
            raise ValueError(
                "expected risk, time and event of shape (B,), got "
                f"{tuple(risk.shape)}, {tuple(time.shape)} and {tuple(event.shape)}"
            )
        self._add(risk, time, event)


class ConcordanceIndex(_Ranked):
    """Harrell's C: the share of the comparable pairs in which the higher risk dies first.

    See `milforge.functional.concordance_index`: tied risks count one half, and no orientation is
    chosen. NaN where there is no comparable pair.

    Example:
        >>> metric = ConcordanceIndex()
        >>> metric.update(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 4.0]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def _figure(self, predicted: Tensor, time: Tensor, event: Tensor) -> Tensor:
        return concordance_index(predicted[:, 0], time, event)


class _Weighted:
    """Knows G of the training part, and up to which time it may be used."""

    def __init__(self, censoring: Curve, tau: float | None = None) -> None:
        super().__init__()
        times, values = (torch.tensor(list(each), dtype=torch.float64) for each in censoring)
        if tau is not None and not tau > 0:
            raise ValueError(f"expected tau above 0, got {tau}")
        self.tau = tau
        self._times, self._values = times, values
        self._told = False

    def _steps(self, time: Tensor) -> Steps:
        return Steps(self._times.to(time.device), self._values.to(time.device))

    def _last(self, steps: Steps, time: Tensor, wanted: float | None = None) -> float:
        """The least of what is asked, the last training time with G > 0 and the last time here."""
        bounds = {
            "the last training time still watched": steps.last,
            "the last time": float(time.max()),
        }
        what, last = min(bounds.items(), key=lambda pair: pair[1])
        asked = self.tau if wanted is None else wanted
        if asked is not None and asked <= last:
            return asked
        if asked is not None and not self._told:
            self._told = True
            logger.warning(
                "%s: %g was asked for, and %s is %g: it is measured up to that",
                type(self).__name__,
                asked,
                what,
                last,
            )
        return last


class UnoConcordanceIndex(_Weighted, _Ranked):
    r"""Uno's C: that of Harrell with weights `1 / G(t-)^2`, which censoring does not bias.

    Pairs count whose event is at tau at the latest: the least of what is asked for, the last
    training time with G above 0, and the last time of the bags; where less is measured than asked
    for, a warning says so.

    Args:
        censoring: G of the training part: its times, and its value from each of them on.
        tau: the last time that counts; None: as late as can be.

    Raises:
        ValueError: for a tau that is not positive.

    Example:
        >>> metric = UnoConcordanceIndex(([1.0, 9.0], [1.0, 0.5]))
        >>> metric.update(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 4.0]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def _figure(self, predicted: Tensor, time: Tensor, event: Tensor) -> Tensor:
        steps = self._steps(time)
        counts = (event > 0) & (time <= self._last(steps, time))
        weight = counts / steps.before(time).square()
        return concordance_index(predicted[:, 0], time, event, weight.where(counts, 0.0))


class CumulativeDynamicAUC(_Weighted, _Ranked):
    """Area under the ROC curve of those who died by a time against those who live, over times.

    See `milforge.functional.cumulative_dynamic_auc`. Times beyond the last training time with G
    above 0, and those at which nobody has died or nobody lives, are left out.

    Args:
        times: the times.
        censoring: G of the training part: its times, and its value from each of them on.
        average: mean, over the times; None: the value of each, `(T,)`.

    Raises:
        ValueError: for another average.

    Example:
        >>> metric = CumulativeDynamicAUC([2.0], ([1.0, 9.0], [1.0, 0.5]))
        >>> metric.update(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 4.0]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def __init__(
        self, times: Sequence[float], censoring: Curve, average: str | None = "mean"
    ) -> None:
        if average not in ("mean", None):
            raise ValueError(f"expected average to be mean or null, got {average!r}")
        super().__init__(censoring)
        self.times = tuple(float(each) for each in times)
        self.average = average

    def _nothing(self) -> Tensor:
        nothing = super()._nothing()
        return nothing if self.average else nothing.expand(len(self.times)).clone()

    def _figure(self, predicted: Tensor, time: Tensor, event: Tensor) -> Tensor:
        times, steps = time.new_tensor(self.times), self._steps(time)
        self._last(steps, time, self.times[-1])
        values = cumulative_dynamic_auc(predicted[:, 0], time, event, times, steps)
        return values.nanmean() if self.average else values


class IntegratedBrierScore(_Weighted, _AllTimes):
    """Brier score of the predicted survival, averaged over time by trapezoids.

    See `milforge.functional.brier_score`. 0 is best; a survival of one half at all times has 1/4.
    It ends at the least of the last of the times, the last training time with G above 0, and the
    last time of the bags; where that is earlier than asked for, a warning says so.

    Args:
        times: at which the survival is predicted.
        censoring: G of the training part: its times, and its value from each of them on.

    Example:
        >>> metric = IntegratedBrierScore([1.0, 2.0], ([1.0, 9.0], [1.0, 1.0]))
        >>> survival = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
        >>> metric.update(survival, torch.tensor([1.5, 4.0]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(0.2500, dtype=torch.float64)
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(self, times: Sequence[float], censoring: Curve) -> None:
        super().__init__(censoring)
        self.times = tuple(float(each) for each in times)

    def update(self, survival: Tensor, time: Tensor, event: Tensor) -> None:
        """Add the bags of a batch.

        Args:
            survival: `(B, T)`, the predicted probability of living beyond each time.
            time: `(B,)` float.
            event: `(B,)`, 1 where the event has happened, 0 where the bag is censored.

        Raises:
            ValueError: for other shapes.
        """
        expected = (*time.shape, len(self.times))
        if survival.shape != expected or time.ndim != 1 or event.shape != time.shape:
            raise ValueError(
                f"expected survival of shape (B, {len(self.times)}), time and event (B,), got "
                f"{tuple(survival.shape)}, {tuple(time.shape)} and {tuple(event.shape)}"
            )
        self._add(survival, time, event)

    def _figure(self, predicted: Tensor, time: Tensor, event: Tensor) -> Tensor:
        # Compared with the bags' times as these are kept, or one that is equal is not.
        times, steps = time.new_tensor(self.times), self._steps(time)
        last = self._last(steps, time, self.times[-1])
        scores = brier_score(predicted, time, event, times, steps)
        scores = scores.masked_fill(times > last, torch.nan)
        return integrated(scores, scores.new_tensor(self.times))
