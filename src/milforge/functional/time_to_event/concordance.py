"""Concordance of risks with times that may be censored."""

import torch
from torch import Tensor


def concordance_index(
    risk: Tensor, time: Tensor, event: Tensor, weight: Tensor | None = None
) -> Tensor:
    r"""Share of the comparable pairs in which the higher risk dies first.

    $$ C = \frac{\sum_{(i, j)} w_i (1[r_i > r_j] + 1[r_i = r_j] / 2)}{\sum_{(i, j)} w_i} $$

    over the pairs in which the event of i comes before the time of j, or j is censored at that
    time. Two events at one time are no pair. Harrell et al. (JAMA 1982) with all weights 1; Uno et
    al. (Statistics in Medicine 2011) with `1 / G(t_i-)^2`. A high risk is to mean a short time: no
    other orientation is tried. N log N steps.

    Args:
        risk: `(n,)` float.
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.
        weight: `(n,)` float of the bags whose event is the earlier one; None: all 1.

    Returns:
        0-dim float64; NaN where there is no pair.

    Example:
        >>> time, event = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 0, 1])
        >>> concordance_index(torch.tensor([0.9, 0.9, 0.1]), time, event)  # a tie, and a good pair
        tensor(0.7500, dtype=torch.float64)
    """
    happened = event > 0
    # Events of a time come before the bags that are censored then.
    stamps = torch.stack([time, (~happened).to(time.dtype)], 1)
    _, place = torch.unique(stamps, dim=0, return_inverse=True)
    _, rank = torch.unique(risk, return_inverse=True)
    later = place.argsort(descending=True, stable=True)
    # How many bags come after each: they stand before it in this order.
    counts = place.bincount().flip(0).cumsum(0).flip(0)
    after = (counts - place.bincount())[place]
    lower, equal = count_before(rank[later], after, rank)
    w = torch.ones_like(risk, dtype=torch.float64) if weight is None else weight.double()
    w = w * happened
    share: Tensor = (w * (lower + equal / 2)).sum() / (w * after).sum()
    return share


def count_before(values: Tensor, ends: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the first values are lower than, and how many are equal to, what is asked.

    A wavelet matrix (Claude et al. 2015): the values are parted by one bit after the other, and
    each question follows its own part. M questions about n values below 2^b take (n + M) b steps.

    Args:
        values: `(n,)` int64, 0 or more.
        ends: `(M,)` int64, how many values each question is about, from the first.
        wanted: `(M,)` int64, what they are compared with, 0 or more.

    Returns:
        Numbers of lower and of equal ones, `(M,)` int64 each.

    Example:
        >>> count_before(torch.tensor([3, 1, 2]), torch.tensor([2, 3]), torch.tensor([3, 2]))
        (tensor([1, 1]), tensor([1, 1]))
    """
    start, stop, lower = torch.zeros_like(ends), ends, torch.zeros_like(ends)
    most = max(int(each.max()) if len(each) else 0 for each in (values, wanted))
    for bit in reversed(range(most.bit_length())):
        zero = (values >> bit) & 1 == 0
        zeros = torch.nn.functional.pad(zero.long().cumsum(0), (1, 0))
        high = (wanted >> bit) & 1 == 1
        low_start, low_stop = zeros[start], zeros[stop]
        lower = lower + torch.where(high, low_stop - low_start, 0)
        start = torch.where(high, zeros[-1] + start - low_start, low_start)
        stop = torch.where(high, zeros[-1] + stop - low_stop, low_stop)
        values = torch.cat([values[zero], values[~zero]])
    return lower, stop - start
