"""The area under the ROC curve: its covariance by DeLong, intervals, and paired comparison.

Where a patient has several bags, the sums are taken within patients (Obuchowski 1997).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from milforge.statistics.estimates import Estimate, checked_labels, cluster_numbers

Method = Literal["newcombe", "delong", "logit"]
Clusters = Sequence[object] | NDArray[np.generic] | None


class AurocCovariance(NamedTuple):
    """AUROCs of K models on the same bags.

    Attributes:
        values: `(K,)`.
        covariance: `(K, K)` of them; NaN where fewer than two patients are of one class.
        design: `(K,)` how many times larger the variances are than if all bags were independent.
        positives: number of positive bags.
        negatives: number of negative bags.
        clusters: patients with a positive bag, with a negative one, and all.
    """

    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    design: NDArray[np.float64]
    positives: int
    negatives: int
    clusters: tuple[int, int, int]


class AurocDifference(NamedTuple):
    """The AUROC of a second model minus that of a first on the same bags.

    Attributes:
        value: the difference.
        low: lower end of its interval, at least -1.
        high: upper end of its interval, at most 1.
        z: DeLong's statistic; None where the variance of the difference is 0 or unknown.
        p: two-sided, from the normal distribution; None without z.
    """

    value: float
    low: float
    high: float
    z: float | None
    p: float | None


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The probability that a positive bag has a higher score than a negative one, ties one half.

    Args:
        labels: `(n,)` of 0 and 1, both of which occur.
        scores: `(n,)` finite.

    Raises:
        ValueError: for other labels or scores.

    Example:
        >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    y, x = checked_labels(labels, scores)
    return auroc_of(y, x[0])


def auroc_of(y: NDArray[np.bool_], x: NDArray[np.float64]) -> float:
    """The same of labels and scores that are known to be right, as when bags are drawn again."""
    positive, negative = np.sort(x[y]), np.sort(x[~y])
    below = negative.searchsorted(positive) + negative.searchsorted(positive, "right")
    return float(below.sum()) / (2 * len(negative) * len(positive))


def delong(labels: ArrayLike, scores: ArrayLike, clusters: Clusters = None) -> AurocCovariance:
    r"""AUROCs of several models on the same bags and their covariance.

    With $X$ the scores of the m positive and $Y$ those of the n negative bags, $\psi(x, y)$ 1, 1/2
    or 0 where x is above, equal to or below y, $V^{10}_i = \mathrm{mean}_j\,\psi(X_i, Y_j)$ and
    $V^{01}_j = \mathrm{mean}_i\,\psi(X_i, Y_j)$, the covariance is $S^{10}/m + S^{01}/n$ (DeLong et
    al. 1988), computed from midranks in $O(N \log N)$ (Sun and Xu 2014). With clusters the
    deviations are added up within each, and $(S^{11} + S^{11\top})/(mn)$ is added for those with
    bags of both classes (Obuchowski 1997); clusters of one bag give DeLong's.

    Args:
        labels: `(n,)` of 0 and 1, both of which occur.
        scores: `(n,)`, or `(K, n)` of K models, finite.
        clusters: `(n,)` the patient of each bag; None: each bag is a patient.

    Raises:
        ValueError: for other labels, scores or clusters.

    Example:
        >>> found = delong([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        >>> found.values, found.covariance.round(4)
        (array([0.75]), array([[0.125]]))
    """
    y, x = checked_labels(labels, scores)
    numbers = cluster_numbers(clusters, len(y))
    m, n = int(y.sum()), int((~y).sum())
    everywhere = stats.rankdata(x, axis=1)
    v10 = (everywhere[:, y] - stats.rankdata(x[:, y], axis=1)) / n
    v01 = 1 - (everywhere[:, ~y] - stats.rankdata(x[:, ~y], axis=1)) / m
    values = v10.mean(1)
    apart10, apart01 = v10 - values[:, None], v01 - values[:, None]
    alone = np.full(len(x), np.nan)
    if m > 1 and n > 1:
        alone = apart10.var(1, ddof=1) / m + apart01.var(1, ddof=1) / n
    total = int(numbers.max()) + 1
    sums10, sums01 = np.zeros((len(x), total)), np.zeros((len(x), total))
    np.add.at(sums10.T, numbers[y], apart10.T)
    np.add.at(sums01.T, numbers[~y], apart01.T)
    of10, of01 = len(np.unique(numbers[y])), len(np.unique(numbers[~y]))
    covariance = np.full((len(x), len(x)), np.nan)
    if of10 > 1 and of01 > 1:
        both = sums10 @ sums01.T * (total / (total - 1))
        covariance = (
            sums10 @ sums10.T * (of10 / (of10 - 1)) / m**2
            + sums01 @ sums01.T * (of01 / (of01 - 1)) / n**2
            + (both + both.T) / (m * n)
        )
    # Where nothing varies, as at an AUROC of 1, the bags of a patient are taken to be alike.
    design = np.full(len(x), max(m / of10, n / of01))
    known = np.isfinite(alone) & (alone > 0) & np.isfinite(np.diag(covariance))
    design[known] = np.maximum(np.diag(covariance)[known] / alone[known], 1)
    return AurocCovariance(values, covariance, design, m, n, (of10, of01, total))


def auroc_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    clusters: Clusters = None,
    *,
    method: Method = "newcombe",
    confidence: float = 0.95,
) -> Estimate:
    r"""The AUROC of a model with an interval that stays in [0, 1].

    `newcombe` is the score interval of Newcombe (2006, part 2, method 5): all $\theta$ with
    $|\theta - \hat\theta| \le z \sqrt{V(\theta)}$, where
    $V(\theta) = \theta (1 - \theta) [1 + N^* (1 - \theta)/(2 - \theta) + N^* \theta/(1 + \theta)] /
    (m n)$ and $N^* = (m + n)/2 - 1$. It has a width at 0 and 1 too. Where patients have several
    bags, V is multiplied by the ratio of the clustered variance to DeLong's, at least 1. `delong`
    is $\hat\theta \pm z\,\mathrm{se}$, cut off at 0 and 1; `logit` the same on the scale of
    $\log(\theta/(1 - \theta))$; neither has a width at 0 and 1.

    Args:
        labels: as in `delong`.
        scores: `(n,)`.
        clusters: as in `delong`.
        method: the kind of interval.
        confidence: the share of cases in which it is to hold the true value.

    Raises:
        ValueError: for other labels, scores, clusters or methods.

    Example:
        >>> found = auroc_interval([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        >>> found.value, round(found.low, 3), found.high
        (1.0, 0.501, 1.0)
    """
    if method not in ("newcombe", "delong", "logit"):
        raise ValueError(f"expected method newcombe, delong or logit, got {method!r}")
    found = delong(labels, scores, clusters)
    if len(found.values) != 1:
        raise ValueError(f"expected the scores of one model, got those of {len(found.values)}")
    return interval_of(found, 0, method=method, confidence=confidence)


def interval_of(
    found: AurocCovariance, model: int, *, method: Method = "newcombe", confidence: float = 0.95
) -> Estimate:
    """The interval of one of the models of `delong`; see `auroc_interval`."""
    value = float(found.values[model])
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    if method == "newcombe":
        factor = z * z * found.design[model] / (found.positives * found.negatives)
        star = (found.positives + found.negatives) / 2 - 1

        def beyond(t: float) -> float:
            spread = 1 + star * (1 - t) / (2 - t) + star * t / (1 + t)
            return float((t - value) ** 2 - factor * t * (1 - t) * spread)

        edge = 1e-12  # the observed value itself solves the equation where it is 0 or 1
        low = optimize.brentq(beyond, 0, min(value, 1 - edge)) if value > 0 else 0.0
        high = optimize.brentq(beyond, max(value, edge), 1) if value < 1 else 1.0
        return Estimate(value, float(low), float(high))
    error = float(np.sqrt(found.covariance[model, model]))
    if method == "delong" or not 0 < value < 1:
        return Estimate(value, max(value - z * error, 0.0), min(value + z * error, 1.0))
    middle, half = np.log(value / (1 - value)), z * error / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(middle + np.array([-half, half]))))
    return Estimate(value, float(low), float(high))


def compare_auroc(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters = None,
    *,
    confidence: float = 0.95,
) -> AurocDifference:
    r"""Compares two models on the same bags: DeLong's paired test, clustered by patient.

    $z = (A_2 - A_1) / \sqrt{c^\top S c}$ with $c = (-1, 1)$; the interval is that of the same
    normal distribution, cut off at -1 and 1. Where $c^\top S c$ is 0 or unknown, as where both are
    1, the interval joins those of both models (Zou and Donner 2008, from `auroc_interval` and the
    correlation of S), so that it has a width there too.

    Args:
        labels: as in `delong`.
        first: `(n,)` scores of the first model, the baseline.
        second: `(n,)` scores of the second one.
        clusters: as in `delong`.
        confidence: of the interval.

    Raises:
        ValueError: for other labels, scores or clusters.

    Example:
        >>> labels, first = [0, 0, 0, 1, 1, 1], [0.1, 0.5, 0.3, 0.4, 0.2, 0.6]
        >>> found = compare_auroc(labels, first, [0.1, 0.5, 0.3, 0.4, 0.6, 0.7])
        >>> round(found.value, 3), round(found.p, 2)
        (0.222, 0.37)
    """
    found = delong(labels, np.stack([np.asarray(first), np.asarray(second)]), clusters)
    (a, b), cov = found.values, found.covariance
    value = float(b - a)
    variance = float(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    # Equal models differ by the rounding of sums alone.
    if np.isfinite(variance) and variance > 1e-14:
        error = float(np.sqrt(variance))
        half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
        ends = max(value - half, -1.0), min(value + half, 1.0)
        return AurocDifference(
            value, *ends, value / error, float(2 * stats.norm.sf(abs(value / error)))
        )
    one, two = (interval_of(found, model, confidence=confidence) for model in (0, 1))
    scale = np.sqrt(cov[0, 0] * cov[1, 1])
    rho = float(np.clip(cov[0, 1] / scale, -1, 1)) if scale > 0 else 0.0
    down = _joined(two.value - two.low, one.high - one.value, rho)
    up = _joined(two.high - two.value, one.value - one.low, rho)
    p = 1.0 if value == 0 and np.isfinite(variance) else None
    return AurocDifference(value, value - down, value + up, None, p)


def _joined(one: float, other: float, rho: float) -> float:
    return float(np.sqrt(max(one**2 + other**2 - 2 * rho * one * other, 0)))
