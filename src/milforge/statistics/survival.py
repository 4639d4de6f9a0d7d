"""Kaplan-Meier curves and the concordance of risks with censored times."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class SurvivalCurve(NamedTuple):
    """The share that survives from each time on, `(k,)` each, from time 0 on."""

    time: NDArray[np.float64]
    survival: NDArray[np.float64]


def kaplan_meier(time: ArrayLike, event: ArrayLike) -> SurvivalCurve:
    """The product-limit estimate (Kaplan and Meier 1958).

    Args:
        time: `(n,)` of the event or of censoring.
        event: `(n,)` bool, whether the event was seen.

    Example:
        >>> curve = kaplan_meier([1, 2, 3], [True, False, True])
        >>> curve.time.tolist(), curve.survival.round(3).tolist()
        ([0.0, 1.0, 3.0], [1.0, 0.667, 0.0])
    """
    t, seen = np.asarray(time, dtype=np.float64), np.asarray(event).astype(bool)
    if t.ndim != 1 or t.shape != seen.shape or not len(t):
        raise ValueError(f"expected times and events (n,), got {t.shape} and {seen.shape}")
    times = np.unique(t[seen])
    at_risk = (t[None, :] >= times[:, None]).sum(1)
    deaths = ((t[None, :] == times[:, None]) & seen).sum(1)
    share = np.cumprod(1 - deaths / np.maximum(at_risk, 1))
    return SurvivalCurve(np.concatenate([[0.0], times]), np.concatenate([[1.0], share]))


def concordance(time: ArrayLike, event: ArrayLike, risk: ArrayLike) -> float:
    """Harrell's C: the share of comparable pairs in which the earlier event has the higher risk.

    A pair is comparable where the earlier time is that of an event; ties in risk count one half,
    pairs of equal time are left out, but for an event at the time of a censoring.

    Args:
        time: `(n,)`.
        event: `(n,)` bool.
        risk: `(n,)`.

    Returns:
        C; NaN where no pair is comparable.

    Example:
        >>> concordance([1, 2, 3], [True, True, False], [0.9, 0.5, 0.7])
        0.6666666666666666
    """
    t, seen = np.asarray(time, dtype=np.float64), np.asarray(event).astype(bool)
    r = np.asarray(risk, dtype=np.float64)
    if t.ndim != 1 or not t.shape == seen.shape == r.shape:
        raise ValueError(f"expected (n,) each, got {t.shape}, {seen.shape} and {r.shape}")
    comparable = seen[:, None] & (
        (t[:, None] < t[None, :]) | ((t[:, None] == t[None, :]) & ~seen[None, :])
    )
    if not comparable.any():
        return float("nan")
    agree = (r[:, None] > r[None, :]) + 0.5 * (r[:, None] == r[None, :])
    return float(agree[comparable].mean())
