"""Which values lie so far from the others that a figure of all of them would show nothing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REACH = 5.0  # spreads of the middle half


def main_range(values: Sequence[float] | NDArray[np.floating]) -> tuple[float, float]:
    """The range of the values without those that lie alone.

    A value lies alone that is further from the middle half, between the quartiles, than 5 times its
    width. Where the middle half has no width none does.

    Args:
        values: `(n,)`; those that are not finite do not count.

    Returns:
        The least and the largest of the others; 0 and 1 where there is none.

    Example:
        >>> main_range([0.70, 0.72, 0.74, 0.76, 0.05])
        (0.7, 0.76)
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    first, third = np.quantile(known, (0.25, 0.75))
    reach = REACH * (third - first)
    inner = known[(known >= first - reach) & (known <= third + reach)] if reach else known
    return float(inner.min()), float(inner.max())
