"""Whether two models differ, by swapping their predictions patient by patient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from milforge.statistics.auroc import Clusters
from milforge.statistics.estimates import cluster_numbers


class PermutationTest(NamedTuple):
    """Attributes: the difference of the second model to the first, and its two-sided p.

    p is NaN where the difference is.
    """

    difference: float
    p: float


def paired_permutation(
    statistic: Callable[[NDArray[Any]], float],
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters = None,
    *,
    ranks: bool = False,
    draws: int = 9999,
    seed: int = 0,
) -> PermutationTest:
    """Tests whether two models differ in a metric, on the same bags.

    Were the models alike, each patient's predictions could as well have been those of the other.
    In each draw the predictions of a random half of the patients are swapped; p is (1 + the number
    of draws with a difference as large) / (1 + draws), so it is never 0 (Phipson and Smyth 2010). A
    draw in which the metric has no value counts as one as large.

    Args:
        statistic: takes predictions `(n,)` or `(n, K)` and returns the metric.
        first: `(n,)` or `(n, K)` predictions of the first model, the baseline.
        second: those of the second.
        clusters: `(n,)` the patient of each bag; None: each bag is a patient.
        ranks: whether the predictions are replaced by their ranks, for metrics that see nothing
            else, so that models of different scale can be swapped.
        draws: number of draws.
        seed: of the drawing.

    Raises:
        ValueError: where the predictions are not of the same bags.

    Example:
        >>> truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> right = lambda predicted: np.mean((predicted > 0.5) == truth)
        >>> found = paired_permutation(right, truth, 1 - truth)
        >>> found.difference, round(found.p, 2)
        (-1.0, 0.01)
    """
    one, two = np.asarray(first), np.asarray(second)
    if one.shape != two.shape or one.ndim not in (1, 2):
        raise ValueError(f"expected predictions of one shape, got {one.shape} and {two.shape}")
    numbers = cluster_numbers(clusters, len(one))
    if ranks:
        one, two = stats.rankdata(one, axis=0), stats.rankdata(two, axis=0)
    generator = np.random.default_rng(seed)
    difference = float(statistic(two) - statistic(one))
    if np.isnan(difference):
        return PermutationTest(difference, np.nan)
    count, total = 0, int(numbers.max()) + 1
    for swapped in generator.integers(2, size=(draws, total), dtype=np.bool_):
        swap = swapped[numbers] if one.ndim == 1 else swapped[numbers, None]
        drawn = statistic(np.where(swap, one, two)) - statistic(np.where(swap, two, one))
        count += not abs(drawn) < abs(difference) - 1e-12
    return PermutationTest(difference, (1 + count) / (1 + draws))
