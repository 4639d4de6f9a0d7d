"""Whether two groups of bags live equally long."""

import math

import torch
from torch import Tensor


def log_rank(time: Tensor, event: Tensor, group: Tensor) -> float:
    r"""The p of the log-rank test of two groups.

    $$ \chi^2 = \frac{(\sum_t d_{1t} - d_t n_{1t} / n_t)^2}
                     {\sum_t d_t \frac{n_{1t}}{n_t} (1 - \frac{n_{1t}}{n_t})
                      \frac{n_t - d_t}{n_t - 1}} $$

    over the times of events, with d events and n bags at risk, of which those with a 1 are of the
    group. (Mantel 1966.)

    Args:
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.
        group: `(n,)` bool.

    Returns:
        p; NaN where there is one group, or no event that could tell them apart.

    Example:
        >>> time, event = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 1, 0, 1])
        >>> round(log_rank(time, event, time < 3), 4)
        0.0896
    """
    times = torch.unique(time[event > 0])
    at_risk = time[None] >= times[:, None]
    dead = (time[None] == times[:, None]) & (event > 0)
    n, d = at_risk.sum(1).double(), dead.sum(1).double()
    share = (at_risk & group).sum(1) / n
    surplus = ((dead & group).sum(1) - d * share).sum()
    variance = (d * share * (1 - share) * (n - d) / (n - 1).clamp(min=1)).sum()
    if not variance > 0:
        return math.nan
    return float(torch.special.erfc((surplus.square() / variance / 2).sqrt()))
