"""Survival in bins of time: a hazard of each."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from milforge.functional import discrete_survival_nll
from milforge.tasks.time_to_event.survival import Survival
from milforge.tasks.time_to_event.survival_curves import interpolated, median_of


class SurvivalDiscrete(Survival):
    r"""Survival in K bins of time, of which a logit each gives the hazard.

    The edges are quantiles of the times of the events of the training part; a time that is an edge
    belongs to the bin that ends there, so that nobody lives beyond it who died then. With the
    hazards `h_k = sigmoid(l_k)`, a bag lives beyond bin k with `S_k = prod_{j<=k} (1 - h_j)`;
    within a bin the survival is a straight line, and beyond the last time of the training part it
    stays.
    `risk` is `-sum_k S_k`, less its mean. See `Survival` for the columns.

    Args:
        bins: K, 2 or more.
        alpha: how much less censored bags count in the loss, from 0 to 1.
        times: see `Survival`.
        unit: see `Survival`.

    Attributes:
        edges: `(K + 1,)` of the bins: 0, the quantiles, the last training time; in the checkpoint.

    Raises:
        ValueError: for fewer bins, or an alpha out of range.
    """

    kind: ClassVar[str] = "survival_discrete"
    edges: Tensor

    def __init__(
        self,
        bins: int = 4,
        alpha: float = 0.0,
        times: Sequence[float] | None = None,
        unit: str | None = None,
    ) -> None:
        super().__init__(times, unit)
        if bins < 2:
            raise ValueError(f"expected task.bins of at least 2, got {bins}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"expected task.alpha from 0 to 1, got {alpha}")
        self.bins = bins
        self.alpha = alpha

    def _outputs(self) -> int:
        return self.bins

    def _settle(self, times: Sequence[float]) -> None:
        super()._settle(times)
        self.register_buffer("edges", torch.zeros(self.bins + 1))

    def fit(self, y: Tensor) -> None:
        """Takes the edges from the training part.

        Raises:
            ValueError: where its events have too few different times for so many bins.
        """
        super().fit(y)
        time, event = y.double().unbind(1)
        happened = time[event > 0]
        inner = happened.quantile(torch.arange(1, self.bins, dtype=torch.float64) / self.bins)
        edges = torch.cat([time.new_zeros(1), inner, time.max()[None]]).float()
        if not bool((edges.diff() > 0).all()):
            raise ValueError(
                f"expected events at enough different times for task.bins={self.bins}, got "
                f"{len(set(happened.tolist()))} among {len(happened)} events of the training part: "
                "lower task.bins"
            )
        self.edges.copy_(edges)

    def bins_of(self, time: Tensor) -> Tensor:
        """`(B,)` int64, the bin of each time; one that is missing has the first."""
        inner = self.edges[1:-1].contiguous()
        return torch.bucketize(time.nan_to_num().contiguous(), inner)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of the bin."""
        time, event = target.unbind(1)
        return discrete_survival_nll(logits, self.bins_of(time), event, self.alpha)

    def risk(self, logits: Tensor) -> Tensor:
        """`-sum_k S_k`."""
        return -_lived(logits).sum(1)

    def survival(self, logits: Tensor, times: Tensor) -> Tensor:
        """By straight lines between the edges."""
        lived = _lived(logits)
        curve = torch.cat([lived.new_ones(len(lived), 1), lived], 1)
        return interpolated(times, self.edges.to(lived), curve)

    def median_time(self, logits: Tensor) -> Tensor:
        """By straight lines between the edges."""
        return median_of(self.edges[1:].to(logits), _lived(logits))

    def logits_of(self, survival: Tensor, times: Tensor, members: Sequence[Tensor]) -> Tensor:
        """Of the hazards between the edges of this task, by straight lines between the times."""
        known = torch.cat([times.new_zeros(1), times]).to(survival)
        curve = torch.cat([survival.new_ones(len(survival), 1), survival], 1)
        lived = interpolated(self.edges.to(survival), known, curve)
        return (1 - lived[:, 1:] / lived[:, :-1].clamp(min=1e-12)).logit(eps=1e-6)


def _lived(logits: Tensor) -> Tensor:
    """`(B, K)`, the probability of living beyond each bin."""
    return torch.nn.functional.logsigmoid(-logits).cumsum(1).exp()
