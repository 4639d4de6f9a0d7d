"""What the functions of this package share: an estimate, and checks of what is given."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Estimate(NamedTuple):
    """A number with its interval.

    Attributes:
        value: the number.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


def checked_labels(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The labels as bool `(n,)`, and the scores as float64 `(K, n)`.

    Raises:
        ValueError: where labels are not 0 and 1, or only one of them, or scores are not finite.
    """
    y = np.asarray(labels)
    x = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if y.ndim != 1 or x.ndim != 2 or x.shape[1] != len(y):
        raise ValueError(
            f"expected labels (n,) and scores (n,) or (K, n), got shapes {y.shape} and "
            f"{np.shape(scores)}"
        )
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(f"expected labels of 0 and 1, got {np.unique(y)[:5].tolist()}")
    if not 0 < y.sum() < len(y):
        raise ValueError("expected bags of both classes, got one class")
    if not np.isfinite(x).all():
        raise ValueError("expected finite scores, got NaN or infinity: leave such bags out")
    return y.astype(bool), x


def cluster_numbers(
    clusters: Sequence[object] | NDArray[np.generic] | None, n: int
) -> NDArray[np.int64]:
    """`(n,)` the number of each bag's cluster, from 0; each is its own where there are none.

    Raises:
        ValueError: where there is not one for each bag.
    """
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"expected a cluster for each of {n} bags, got {len(clusters)}")
    known: dict[object, int] = {}
    return np.array([known.setdefault(each, len(known)) for each in clusters], np.int64)
