"""The concordance of risks with censored times."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    _, rank = np.unique(r, return_inverse=True)
    # In this order an event is comparable with all that follow, but events of its own time; of
    # these, which lie by rising risk, none that follows has a lower one.
    order = np.lexsort((rank, ~seen, t))
    rank, seen, t = rank[order], seen[order], t[order]
    place, n = np.arange(len(t)), len(t)
    together = _pairs_within(np.unique(t[seen], return_counts=True)[1])
    both = np.unique(np.stack([t[seen], rank[seen]]), axis=1, return_counts=True)[1]
    pairs = (n - 1 - place[seen]).sum() - together
    if not pairs:
        return float("nan")
    twice = -_pairs_within(both)  # the concordant pairs, and half of those with equal risks
    width, base = 1, n + 1
    while width < n:  # pairs whose parts lie in neighbouring blocks, as in a merge sort
        block = place // width
        keys = np.sort(block * base + rank)
        first = seen & (block % 2 == 0) & ((block + 1) * width < n)
        start = (block[first] + 1) * width
        sought = (block[first] + 1) * base + rank[first]
        for side in ("left", "right"):
            twice += (np.searchsorted(keys, sought, side) - start).sum()
        width *= 2
    return float(twice / (2 * pairs))


def _pairs_within(sizes: NDArray[np.int64]) -> int:
    return int((sizes * (sizes - 1)).sum()) // 2
