"""Sets of classes that hold the true one with a promised probability."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from milforge.statistics.auroc import Clusters
from milforge.statistics.estimates import cluster_numbers


def conformal_threshold(scores: ArrayLike, alpha: float) -> float:
    """The quantile `ceil((n + 1)(1 - alpha)) / n` of scores of non-conformity.

    Args:
        scores: `(n,)`, one a patient.
        alpha: the share of patients whose set may miss the true class.

    Returns:
        The threshold; infinity where n is too small to promise anything, so that sets are full.

    Raises:
        ValueError: for an alpha out of (0, 1).

    Example:
        >>> conformal_threshold([0.1, 0.2, 0.3, 0.4], 0.25), conformal_threshold([0.1], 0.1)
        (0.4, inf)
    """
    if not 0 < alpha < 1:
        raise ValueError(f"expected alpha between 0 and 1, got {alpha}")
    values = np.sort(np.asarray(scores, dtype=np.float64))
    rank = math.ceil((len(values) + 1) * (1 - alpha) - 1e-9)
    return float(values[rank - 1]) if rank <= len(values) else math.inf


def class_thresholds(
    probability: ArrayLike,
    labels: ArrayLike,
    clusters: Clusters = None,
    *,
    alpha: float = 0.1,
) -> NDArray[np.float64]:
    """A threshold of `1 - p` for each class, over patients (Vovk 2012, by class).

    The score of a patient is the largest of 1 - p of the true class over the bags of that class,
    so that all of them are covered together. A class with at least `1 / alpha - 1` patients has a
    threshold of its own; the others have that of all patients.

    Args:
        probability: `(n, C)`.
        labels: `(n,)` numbers of classes.
        clusters: `(n,)` the patient of each bag; None: each bag is a patient.
        alpha: as in `conformal_threshold`.

    Returns:
        `(C,)`, infinity where patients are too few.

    Raises:
        ValueError: for shapes that do not fit, or an alpha out of (0, 1).

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
        >>> class_thresholds(p, [0, 0, 1], alpha=0.5).round(2)
        array([0.2, 0.3])
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(f"expected probabilities (n, C) and labels (n,), got {p.shape}, {y.shape}")
    numbers = cluster_numbers(clusters, len(y))
    scores = 1 - np.take_along_axis(p, y[:, None].astype(np.int64), 1)[:, 0]

    def threshold(chosen: NDArray[np.bool_]) -> tuple[int, float]:
        patients, of_bag = np.unique(numbers[chosen], return_inverse=True)
        worst = np.full(len(patients), -np.inf)
        np.maximum.at(worst, of_bag, scores[chosen])
        return len(patients), conformal_threshold(worst, alpha)

    _, pooled = threshold(np.ones(len(y), bool))
    found = np.full(p.shape[1], pooled)
    for number in range(p.shape[1]):
        count, own = threshold(y == number)
        if count >= 1 / alpha - 1 - 1e-9:
            found[number] = own
    return found


def conformal_sets(
    probability: ArrayLike, thresholds: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which classes are in the set of each bag: those with `1 - p` at most the threshold.

    Args:
        probability: `(n, C)`.
        thresholds: `(C,)`.

    Returns:
        `(n, C)` bool; a set may be empty.

    Example:
        >>> conformal_sets([[0.6, 0.4], [0.95, 0.05]], [0.5, 0.7]).tolist()
        [[True, True], [True, False]]
    """
    sets: NDArray[np.bool_] = 1 - np.asarray(probability) <= np.asarray(thresholds)
    return sets
