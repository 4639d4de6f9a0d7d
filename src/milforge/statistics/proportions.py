"""Intervals of proportions: sensitivity, specificity, accuracy, coverage."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from milforge.statistics.auroc import Clusters
from milforge.statistics.estimates import Estimate, cluster_numbers

ADDED = 2  # patients


def wilson(successes: float, total: float, *, confidence: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval (1927), which stays in [0, 1].

    Args:
        successes: from 0 to `total`.
        total: above 0; neither need be whole.
        confidence: the share of cases in which the interval is to hold the true proportion.

    Raises:
        ValueError: for other numbers.

    Example:
        >>> found = wilson(9, 10)
        >>> found.value, round(found.low, 4), round(found.high, 4)
        (0.9, 0.5958, 0.9821)
    """
    if not 0 <= successes <= total or total <= 0:
        raise ValueError(f"expected 0 <= successes <= total > 0, got {successes} of {total}")
    return _interval(successes, total, float(stats.norm.ppf(0.5 + confidence / 2)))


def _interval(successes: float, total: float, z: float) -> Estimate:
    p = successes / total
    scale = 1 + z * z / total
    middle = (p + z * z / (2 * total)) / scale
    half = z * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / scale
    # The ends are exact where all or none succeed, but for rounding.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == total else min(1.0, middle + half)
    return Estimate(float(p), float(low), float(high))


def clustered_proportion(
    hits: ArrayLike, clusters: Clusters = None, *, confidence: float = 0.95
) -> Estimate:
    """The share of bags with a property, with Wilson's interval over patients.

    The number of bags is divided by the design effect (Rao and Scott 1992): the variance of the
    share over patients, as that of a ratio, to that of independent bags, at least 1; Student's t
    stands for the normal distribution. Of few patients that ratio is often too small, so two
    patients are added to it whose bags are all alike; where all bags or none have the property,
    so are those of all patients.

    Args:
        hits: `(n,)` bool, n above 0.
        clusters: `(n,)` the patient of each bag; None: each bag is a patient.
        confidence: of the interval.

    Raises:
        ValueError: for no bag, or clusters of another number.

    Example:
        >>> found = clustered_proportion([1, 1, 1, 0, 1, 1], "aabbcc")
        >>> found.value == 5 / 6, round(found.low, 2), round(found.high, 2)
        (True, 0.13, 0.99)
    """
    x = np.asarray(hits).astype(np.float64)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"expected a row of at least one hit, got shape {x.shape}")
    numbers = cluster_numbers(clusters, len(x))
    n, p, total = len(x), float(x.mean()), int(numbers.max()) + 1
    # Of few patients the variance over them is not well known.
    level = 0.5 + confidence / 2
    z = stats.t.ppf(level, max(total - 1, 1)) if total < n else stats.norm.ppf(level)
    alike = float((np.bincount(numbers) ** 2).sum() / n)  # the effect where a patient's bags are
    effect = alike
    if 0 < p < 1 and 1 < total < n:
        apart = np.bincount(numbers, x - p)
        over_patients = (apart**2).sum() * total / (total - 1)
        seen = max(1.0, float(over_patients / (n * p * (1 - p) * n / (n - 1))))
        effect = (total * seen + ADDED * max(alike, seen)) / (total + ADDED)
    return _interval(p * n / effect, n / effect, float(z))._replace(value=p)
