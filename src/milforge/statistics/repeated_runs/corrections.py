"""p-values of many comparisons."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values that bound the probability of any false positive (Holm 1979).

    The k-th smallest of m, from 0, becomes `max over j <= k of (m - j) p_(j)`, at most 1.

    Args:
        p: `(m,)`; NaN where there is no test, which counts for nothing.

    Raises:
        ValueError: for other numbers than those from 0 to 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    values, known = _checked(p)
    order = np.argsort(values[known], kind="stable")
    m = len(order)
    rising = np.maximum.accumulate((m - np.arange(m)) * values[known][order])
    found = np.full(len(values), np.nan)
    found[np.flatnonzero(known)[order]] = np.minimum(rising, 1)
    return found


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values that bound the expected share of false positives among the positives.

    The k-th smallest of m, from 1, becomes `min over j >= k of m p_(j) / j` (Benjamini and
    Hochberg 1995).

    Args:
        p: as in `holm`.

    Raises:
        ValueError: as `holm` does.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03])
        array([0.03, 0.04, 0.04])
    """
    values, known = _checked(p)
    found = np.full(len(values), np.nan)
    found[known] = stats.false_discovery_control(values[known], method="bh")
    return found


def _checked(p: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(values)
    if values.ndim != 1 or not ((values[known] >= 0) & (values[known] <= 1)).all():
        raise ValueError(f"expected p-values (m,) from 0 to 1, got {np.asarray(p).tolist()!r:.100}")
    return values, known
