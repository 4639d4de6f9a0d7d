"""Whether probabilities are what they say: Brier score, calibration error, slope, temperature."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from milforge.statistics.auroc import Clusters
from milforge.statistics.estimates import Estimate, cluster_numbers
from milforge.statistics.proportions import clustered_proportion

Floats = NDArray[np.float64]
_EDGE = 1e-12  # a probability of 0 or 1 has no logit
LOWEST, HIGHEST = 0.01, 100.0  # temperatures


class Bin(NamedTuple):
    """Bags of like probability.

    Attributes:
        bags: how many.
        predicted: their mean probability.
        observed: the share of positives with its interval.
    """

    bags: int
    predicted: float
    observed: Estimate


class BrierParts(NamedTuple):
    """The Brier score as `reliability - resolution + uncertainty + within`.

    Attributes:
        score: mean squared difference of probability and label.
        reliability: how far the bins are from the diagonal; 0 is best.
        resolution: how far they are from the mean; large is good.
        uncertainty: variance of the labels.
        within: what the probabilities within a bin add.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


class Recalibration(NamedTuple):
    """A logistic regression of the labels on the logit of the probabilities.

    Attributes:
        slope: 1 where calibrated, below 1 where the probabilities are too extreme.
        intercept: of the same regression.
        in_the_large: the intercept where the slope is 1: 0 where the mean is right.
    """

    slope: Estimate
    intercept: Estimate
    in_the_large: Estimate


def reliability_bins(
    labels: ArrayLike, probability: ArrayLike, bins: int = 10, clusters: Clusters = None
) -> list[Bin]:
    """Bins with about as many bags each; equal probabilities are never parted.

    Args:
        labels: `(n,)` of 0 and 1.
        probability: `(n,)` of the positive class.
        bins: at most so many.
        clusters: `(n,)` the patient of each bag; None: each bag is a patient.

    Example:
        >>> [(each.bags, each.observed.value) for each in
        ...  reliability_bins([0, 0, 1, 1], [0.1, 0.1, 0.8, 0.9], bins=2)]
        [(2, 0.0), (2, 1.0)]
    """
    y, p = _checked(labels, probability)
    numbers = cluster_numbers(clusters, len(y))
    return [
        Bin(len(each), float(p[each].mean()), clustered_proportion(y[each], numbers[each]))
        for each in _binned(p, bins)
    ]


def brier_parts(labels: ArrayLike, probability: ArrayLike, bins: int = 10) -> BrierParts:
    """The Brier score and its parts (Murphy 1973; within bins Stephenson et al. 2008).

    Args:
        labels: `(n,)` of 0 and 1.
        probability: `(n,)`.
        bins: as in `reliability_bins`.

    Example:
        >>> brier_parts([0, 1], [0.0, 1.0]).score
        0.0
    """
    y, p = _checked(labels, probability)
    score, base = float(np.mean((p - y) ** 2)), y.mean()
    parts = _binned(p, bins)
    shares = np.array([len(each) / len(y) for each in parts])
    predicted = np.array([p[each].mean() for each in parts])
    observed = np.array([y[each].mean() for each in parts])
    reliability = float((shares * (predicted - observed) ** 2).sum())
    resolution = float((shares * (observed - base) ** 2).sum())
    uncertainty = float(base * (1 - base))
    within = score - (reliability - resolution + uncertainty)
    return BrierParts(score, reliability, resolution, uncertainty, within)


def debiased_ece(labels: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    r"""The root of the calibration error in squares, without the bias of few bags a bin.

    $\sum_b \frac{n_b}{n} [(\bar p_b - \bar y_b)^2 - \bar y_b (1 - \bar y_b)/(n_b - 1)]$, 0 where
    that is negative (Kumar et al. 2019). Bins of one bag tell nothing and are left out.

    Args:
        labels: `(n,)` of 0 and 1.
        probability: `(n,)`.
        bins: as in `reliability_bins`.
    """
    y, p = _checked(labels, probability)
    total = 0.0
    for each in _binned(p, bins):
        if len(each) > 1:
            observed = y[each].mean()
            noise = observed * (1 - observed) / (len(each) - 1)
            total += len(each) / len(y) * ((p[each].mean() - observed) ** 2 - noise)
    return float(np.sqrt(max(total, 0.0)))


def recalibration(
    labels: ArrayLike, probability: ArrayLike, clusters: Clusters = None
) -> Recalibration | None:
    """Calibration slope and intercept (Cox 1958) with Wald intervals.

    Where patients have several bags, the variances are those of the scores of patients (Liang and
    Zeger 1986) where these are larger, and Student's t stands for the normal distribution. A single
    patient has no interval.

    Args:
        labels: `(n,)` of 0 and 1.
        probability: `(n,)`.
        clusters: `(n,)` the patient of each bag; None: each bag is a patient.

    Returns:
        Both; None where they have no finite values: one class only, probabilities that are all
        alike, or that part the classes.

    Example:
        >>> found = recalibration([0, 0, 1, 0, 1, 1], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
        >>> round(found.slope.value, 2)
        2.89
    """
    y, p = _checked(labels, probability)
    numbers = cluster_numbers(clusters, len(y))
    logit = special.logit(np.clip(p, _EDGE, 1 - _EDGE))
    if not 0 < y.sum() < len(y) or np.ptp(logit) == 0:
        return None
    if logit[y == 1].min() >= logit[y == 0].max() or logit[y == 1].max() <= logit[y == 0].min():
        return None
    both = _logistic(np.stack([np.ones_like(logit), logit], 1), np.zeros_like(logit), y, numbers)
    large = _logistic(np.ones((len(y), 1)), logit, y, numbers)
    if both is None or large is None:
        return None
    return Recalibration(slope=both[1], intercept=both[0], in_the_large=large[0])


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T of least mean negative log-likelihood of `logits / T` (Guo et al. 2017).

    Args:
        logits: `(n,)` of two classes, of which `labels` `(n,)` are 0 and 1; or `(n, C)`, `labels`
            the numbers of the classes; or `(n, C)` with `labels` `(n, C)` of 0 and 1.
        labels: see above.

    Returns:
        T, from 0.01 to 100: an end of the range is reached where the classes are told apart
        without an error, or not at all.

    Raises:
        ValueError: for shapes that do not fit, or no bag.

    Example:
        >>> round(fit_temperature([4.0, 4, 4, -4], [1, 1, 0, 0]), 2)
        3.64
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    several = z.ndim == 2 and y.ndim == 1 and z.shape[1] > 1
    if not len(z) or len(z) != len(y) or not (several or z.shape == y.shape):
        raise ValueError(f"expected logits and labels of some bags, got {z.shape} and {y.shape}")

    def loss(log_temperature: float) -> float:
        scaled = z * np.exp(-log_temperature)
        if several:
            chosen = np.take_along_axis(scaled, y[:, None].astype(np.int64), 1)[:, 0]
            return float(np.mean(special.logsumexp(scaled, axis=1) - chosen))
        return float(np.mean(np.logaddexp(0, scaled) - scaled * y))

    ends = (np.log(LOWEST), np.log(HIGHEST))
    found = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-8})
    best = min((found.x, *ends), key=loss)
    return float(np.exp(best))


def _checked(labels: ArrayLike, probability: ArrayLike) -> tuple[Floats, Floats]:
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    if y.shape != p.shape or y.ndim != 1 or not len(y):
        raise ValueError(f"expected labels and probabilities (n,), got {y.shape} and {p.shape}")
    if not np.isin(y, (0, 1)).all() or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("expected labels of 0 and 1 and probabilities from 0 to 1")
    return y, p


def _binned(p: Floats, bins: int) -> list[NDArray[np.int64]]:
    """The numbers of the bags of each bin, in rising order of probability."""
    order = np.argsort(p, kind="stable")
    wanted = np.linspace(0, len(p), bins + 1).round().astype(int)[1:-1]
    # A border moves up to where the probability changes.
    borders = np.unique(np.searchsorted(p[order], p[order][np.minimum(wanted, len(p) - 1)]))
    return [part for part in np.split(order, borders) if len(part)]


def _logistic(
    x: Floats, offset: Floats, y: Floats, numbers: NDArray[np.int64]
) -> list[Estimate] | None:
    """Coefficients with Wald intervals over patients, by Newton's method with halved steps."""
    beta = np.zeros(x.shape[1])

    def loss(beta: Floats) -> float:
        eta = x @ beta + offset
        return float((np.logaddexp(0, eta) - y * eta).sum())

    hessian = np.eye(len(beta))
    for _ in range(100):
        p = special.expit(x @ beta + offset)
        hessian = x.T @ (x * (p * (1 - p))[:, None])
        if not np.isfinite(hessian).all() or np.linalg.cond(hessian) > 1e14:
            return None
        step, scale = np.linalg.solve(hessian, x.T @ (y - p)), 1.0
        while loss(beta + scale * step) > loss(beta) + 1e-12 and scale > 1e-6:
            scale /= 2
        beta = beta + scale * step
        if np.abs(step).max() < 1e-10:
            break
    half = _half_widths(x * (y - special.expit(x @ beta + offset))[:, None], hessian, numbers)
    return [Estimate(float(b), float(b - h), float(b + h)) for b, h in zip(beta, half, strict=True)]


def _half_widths(scores: Floats, hessian: Floats, numbers: NDArray[np.int64]) -> Floats:
    """Half the 95% intervals of coefficients, from the scores `(n, K)` of the bags."""
    inverse, total = np.linalg.inv(hessian), int(numbers.max()) + 1
    variance, level = np.diag(inverse), 0.975
    if total == len(numbers):
        return np.asarray(stats.norm.ppf(level) * np.sqrt(variance))
    if total == 1:
        return np.full(len(variance), np.nan)
    sums = np.zeros((total, scores.shape[1]))
    np.add.at(sums, numbers, scores)
    over_patients = np.diag(inverse @ (sums.T @ sums) @ inverse) * total / (total - 1)
    widest = np.sqrt(np.maximum(variance, over_patients))
    return np.asarray(stats.t.ppf(level, total - 1) * widest)
