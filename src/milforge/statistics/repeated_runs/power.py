"""How many more runs would tell a difference from noise."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

MOST = 100_000


def power_of_pairs(
    difference: float, deviation: float, pairs: int, *, alpha: float = 0.05
) -> float:
    r"""The probability that the two-sided paired t-test finds a difference.

    With $\delta = \sqrt{n}\,d/s$ and the critical value t of n - 1 degrees of freedom it is
    $P(|T_{n-1}(\delta)| > t)$, T being noncentral.

    Args:
        difference: d, the true mean difference.
        deviation: s, above 0, the standard deviation of the differences.
        pairs: n, at least 2.
        alpha: level of the test.

    Example:
        >>> round(power_of_pairs(1, 1, 10), 3)
        0.803
    """
    if pairs < 2 or deviation <= 0:
        raise ValueError(
            f"expected at least 2 pairs and a deviation above 0, got {pairs} and {deviation}"
        )
    shift = abs(difference) / deviation * np.sqrt(pairs)
    critical = stats.t.ppf(1 - alpha / 2, pairs - 1)
    above = stats.nct.sf(critical, pairs - 1, shift)
    below = stats.nct.cdf(-critical, pairs - 1, shift)
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below))


def pairs_needed(
    differences: Sequence[float], *, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """How many pairs of runs the paired t-test needs to find the mean difference that was seen.

    It takes that difference and its spread for the true ones, so of few pairs it is a rough guess.

    Args:
        differences: `(n,)` of the pairs so far, at least 2.
        power: the probability with which the difference is to be found.
        alpha: level of the test.

    Returns:
        The number of pairs, at least 2; None where there is no difference, or above 100,000.

    Example:
        >>> pairs_needed([0.02, 0.01, 0.04, -0.01])
        18
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("expected at least two finite differences")
    return pairs_to_find(float(values.mean()), float(values.std(ddof=1)), power=power, alpha=alpha)


def pairs_to_find(
    difference: float, deviation: float, *, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """How many pairs of runs the paired t-test needs to find a difference.

    Args:
        difference: the true mean difference.
        deviation: from 0 on, the standard deviation of the differences.
        power: the probability with which the difference is to be found.
        alpha: level of the test.

    Returns:
        The number of pairs, at least 2; None where there is no difference, or above 100,000.

    Example:
        >>> pairs_to_find(1, 1), pairs_to_find(0.01, 0.02), pairs_to_find(0, 1)
        (10, 34, None)
    """
    if deviation == 0:
        return 2 if difference else None
    if not difference or power_of_pairs(difference, deviation, MOST, alpha=alpha) < power:
        return None
    low, high = 2, MOST
    while low < high:
        middle = (low + high) // 2
        if power_of_pairs(difference, deviation, middle, alpha=alpha) >= power:
            high = middle
        else:
            low = middle + 1
    return low
