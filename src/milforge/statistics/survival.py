"""The concordance of risks with censored times."""

import numpy as np
from numpy.typing import ArrayLike


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
