"""Curves of survival, as points that straight lines join."""

import torch
from torch import Tensor

from milforge.tasks.base import Columns

# The column of the survival at a time begins so, and its name ends with the time.
PREFIX = "survival_"


def median_of(times: Tensor, survival: Tensor) -> Tensor:
    """Where curves come down to one half, by straight lines between their points.

    Args:
        times: `(T,)`, rising; at time 0 all curves are 1.
        survival: `(B, T)`, falling.

    Returns:
        `(B,)`; NaN where a curve stays above.

    Example:
        >>> median_of(torch.tensor([1.0, 3.0]), torch.tensor([[0.75, 0.25], [0.9, 0.6]]))
        tensor([2., nan])
    """
    t = torch.cat([times.new_zeros(1), times])
    s = torch.cat([survival.new_ones(len(survival), 1), survival], 1)
    low = s <= 0.5
    place = low.int().argmax(1).clamp(min=1)  # the first that is
    rows = torch.arange(len(s), device=s.device)
    before, here = s[rows, place - 1], s[rows, place]
    share = (before - 0.5) / (before - here).clamp(min=torch.finfo(s.dtype).tiny)
    found = t[place - 1] + share * (t[place] - t[place - 1])
    return found.where(low.any(1), torch.nan)


def interpolated(times: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Curves at other times, by straight lines; beyond the last known time as there.

    Args:
        times: `(T,)`.
        known: `(K,)`, rising.
        values: `(B, K)`.

    Returns:
        `(B, T)`.

    Example:
        >>> interpolated(torch.tensor([2.0]), torch.tensor([0.0, 4.0]), torch.tensor([[1.0, 0.0]]))
        tensor([[0.5000]])
    """
    place = torch.searchsorted(known, times.to(known), right=True).clamp(1, len(known) - 1)
    left, right = known[place - 1], known[place]
    share = ((times.to(known) - left) / (right - left)).clamp(0, 1)
    return values[:, place - 1] * (1 - share) + values[:, place] * share


def curve_at(times: Tensor, columns: Columns) -> Tensor:
    """The survival of one member at the times of another.

    Args:
        times: `(T,)`.
        columns: what a `Survival` task predicted; the names say the times.

    Returns:
        `(B, T)` float64.

    Example:
        >>> columns = {"survival_1": torch.tensor([0.8]), "survival_3": torch.tensor([0.4])}
        >>> curve_at(torch.tensor([1.0, 2.0]), columns)
        tensor([[0.8000, 0.6000]], dtype=torch.float64)
    """
    names = [name for name in columns if name.startswith(PREFIX)]
    own = torch.tensor([0.0, *(float(name.removeprefix(PREFIX)) for name in names)])
    values = torch.stack([columns[name].double() for name in names], 1)
    curve = torch.cat([values.new_ones(len(values), 1), values], 1)
    return interpolated(times.to(values.device), own.to(values), curve)
