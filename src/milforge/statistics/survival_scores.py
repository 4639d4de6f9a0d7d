"""Scores of risks and of survival curves at given times, of bags that may be censored.

Each bag that has died is weighted by `1 / G` of its time (IPCW), G being the share of the same bags
that are still watched.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


def dynamic_auroc(time: ArrayLike, event: ArrayLike, risk: ArrayLike, times: ArrayLike) -> Floats:
    r"""AUROC of those who died by a time against those who live beyond it.

    $$ AUC(t) = \frac{\sum_i \sum_j 1[t_j > t] w_i (1[r_i > r_j] + 1[r_i = r_j] / 2)}
                     {\sum_i w_i \sum_j 1[t_j > t]}
       \qquad w_i = 1[t_i \le t, \delta_i = 1] / G(t_i-) $$

    Uno et al., JASA 2007.

    Args:
        time: `(n,)`.
        event: `(n,)` bool, whether the event happened then.
        risk: `(n,)`, high where the time is to be short.
        times: `(T,)`, the t.

    Returns:
        `(T,)`; NaN where nobody has died, nobody lives, or nobody is watched any more.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> dynamic_auroc([1, 2, 3], [True, True, False], [0.1, 0.9, 0.5], [1, 2, 3]).tolist()
        [0.0, 0.5, nan]
    """
    t, seen, at = _checked(time, event, times)
    r = np.asarray(risk, dtype=np.float64)
    if r.shape != t.shape:
        raise ValueError(f"expected a risk for each of {len(t)} bags, got shape {r.shape}")
    watched = _Watched(t, seen)
    weight = 1 / np.maximum(watched.before(t), np.finfo(float).tiny)
    found = np.full(len(at), np.nan)
    for number in np.flatnonzero(at <= watched.last):
        case, others = seen & (t <= at[number]), np.sort(r[t > at[number]])
        if case.any() and len(others):
            below = np.searchsorted(others, r[case]) + np.searchsorted(others, r[case], "right")
            w = weight[case]
            found[number] = (w * below).sum() / (2 * w.sum() * len(others))
    return found


def survival_brier(
    time: ArrayLike, event: ArrayLike, survival: ArrayLike, times: ArrayLike
) -> Floats:
    r"""Mean squared error of the predicted survival at each time.

    $$ BS(t) = \frac1n \sum_i \frac{1[t_i \le t, \delta_i = 1] S(t | i)^2}{G(t_i-)}
       + \frac{1[t_i > t] (1 - S(t | i))^2}{G(t)} $$

    Graf et al., Statistics in Medicine 1999.

    Args:
        time: `(n,)`.
        event: `(n,)` bool.
        survival: `(n, T)`, the predicted probability of living beyond each time.
        times: `(T,)`, the t.

    Returns:
        `(T,)`; NaN beyond the last time, or where nobody is watched any more.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> survival_brier([1, 3], [True, True], [[0.5], [1.0]], [2.0]).tolist()
        [0.125]
    """
    t, seen, at = _checked(time, event, times)
    s = np.asarray(survival, dtype=np.float64)
    if s.shape != (len(t), len(at)):
        raise ValueError(f"expected survival ({len(t)}, {len(at)}), got shape {s.shape}")
    watched = _Watched(t, seen)
    tiny = np.finfo(float).tiny
    died = (seen[:, None] & (t[:, None] <= at)) / np.maximum(watched.before(t), tiny)[:, None]
    lives = (t[:, None] > at) / np.maximum(watched.at(at), tiny)
    found: Floats = (died * s**2 + lives * (1 - s) ** 2).mean(0)
    return np.where((at <= watched.last) & (at <= t.max()), found, np.nan)


def mean_over_time(values: ArrayLike, times: ArrayLike) -> float:
    """The mean of a score over time, by trapezoids between the times at which it is known.

    Args:
        values: `(T,)`, NaN where there is none.
        times: `(T,)`, rising.

    Returns:
        The mean; the value itself where there is one, NaN where there is none.

    Example:
        >>> mean_over_time([0.0, 1.0, float("nan")], [1, 2, 5])
        0.5
    """
    v, t = np.asarray(values, dtype=np.float64), np.asarray(times, dtype=np.float64)
    v, t = v[np.isfinite(v)], t[np.isfinite(v)]
    if len(v) < 2:
        return float(v[0]) if len(v) else float("nan")
    return float(np.trapezoid(v, t) / (t[-1] - t[0]))


def log_rank(time: ArrayLike, event: ArrayLike, group: ArrayLike) -> float | None:
    """The p-value of the log-rank test of two groups (Mantel 1966).

    Args:
        time: `(n,)`.
        event: `(n,)` bool.
        group: `(n,)` bool.

    Returns:
        p; None where a group is empty, or no event could tell the two apart.

    Example:
        >>> round(log_rank([1, 2, 3, 4, 5, 6], [1] * 6, [1, 1, 1, 0, 0, 0]), 3)
        0.025
    """
    t, seen, _ = _checked(time, event, ())
    chosen = np.asarray(group).astype(bool)
    if chosen.all() or not chosen.any() or not seen.any():
        return None
    one, two = (
        stats.CensoredData(uncensored=t[part & seen], right=t[part & ~seen])
        for part in (chosen, ~chosen)
    )
    with np.errstate(invalid="ignore"):  # 0 / 0, where no event could tell the groups apart
        p = float(stats.logrank(one, two).pvalue)
    return p if np.isfinite(p) else None


class _Watched:
    """G, the share that is still watched; events of a time come before its censoring.

    Attributes: the last time at which it is above 0.
    """

    last: float

    def __init__(self, time: Floats, event: NDArray[np.bool_]) -> None:
        self._times, place = np.unique(time, return_inverse=True)
        deaths = np.bincount(place, event)
        sizes = np.bincount(place)
        left = np.cumsum(sizes[::-1])[::-1] - deaths
        lasting = np.cumprod(1 - (sizes - deaths) / np.maximum(left, 1))
        self._values = np.concatenate([[1.0], lasting])
        self.last = float(self._times[lasting > 0].max(initial=0.0))

    def at(self, time: Floats) -> Floats:
        """G of each time."""
        found: Floats = self._values[np.searchsorted(self._times, time, "right")]
        return found

    def before(self, time: Floats) -> Floats:
        """G just before each time."""
        found: Floats = self._values[np.searchsorted(self._times, time)]
        return found


def _checked(
    time: ArrayLike, event: ArrayLike, times: ArrayLike
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    t, seen = np.asarray(time, dtype=np.float64), np.asarray(event).astype(bool)
    at = np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or t.shape != seen.shape or at.ndim != 1 or not len(t):
        raise ValueError(
            f"expected time and event (n,) and times (T,), got {t.shape}, {seen.shape}, {at.shape}"
        )
    return t, seen, at
