"""Intervals of any metric by resampling patients."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from milforge.statistics.auroc import Clusters
from milforge.statistics.estimates import cluster_numbers


class BootstrapEstimate(NamedTuple):
    """A metric with its interval.

    Attributes:
        value: of all bags.
        low: lower end of the interval; NaN where fewer than half of the samples have a value.
        high: upper end of the interval.
        undefined: number of samples in which the metric has no value, which are left out.
    """

    value: float
    low: float
    high: float
    undefined: int


def cluster_bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    size: int,
    clusters: Clusters = None,
    *,
    strata: ArrayLike | None = None,
    method: Literal["bca", "percentile"] = "bca",
    limits: tuple[float, float] = (-np.inf, np.inf),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> BootstrapEstimate:
    """Interval of a metric where patients are drawn with replacement, with all their bags.

    `percentile` takes the quantiles of the samples (Davison and Hinkley 1997, section 5.3); `bca`
    corrects them for bias and skewness, the latter by leaving out one patient after the other
    (Efron 1987). Neither has a width where all samples give one value, and both are too narrow for
    few patients.

    Args:
        statistic: takes the numbers of bags `(k,)` int64, of which some occur several times, and
            returns the metric, NaN where it has none.
        size: number of bags.
        clusters: `(size,)` the patient of each bag; None: each bag is a patient.
        strata: `(size,)` classes of bags; patients with the same classes are drawn among
            themselves, so that every sample has as many of each. None: all together.
        method: the kind of interval.
        limits: of the metric, beyond which no end of the interval lies.
        confidence: the share of cases in which the interval is to hold the true value.
        resamples: number of samples.
        seed: of the drawing; the same input gives the same interval.

    Raises:
        ValueError: for fewer than two patients, or clusters or strata of another number.

    Example:
        >>> values = np.array([0.0, 0, 1, 1, 1, 0, 1, 1])
        >>> found = cluster_bootstrap(lambda i: values[i].mean(), 8, "aabbccdd", limits=(0, 1))
        >>> found.value, 0 < found.low < 0.625 < found.high <= 1
        (0.625, True)
    """
    if method not in ("bca", "percentile"):
        raise ValueError(f"expected method bca or percentile, got {method!r}")
    numbers = cluster_numbers(clusters, size)
    members = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    if len(members) < 2:
        raise ValueError(f"expected at least two patients to draw from, got {len(members)}")
    pools = _pools(members, strata, size)
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [pool[generator.integers(len(pool), size=(resamples, len(pool)))] for pool in pools], 1
    )
    values = np.array([statistic(bags) for bags in _bags_of(members, drawn)])
    value = float(statistic(np.arange(size)))
    known = values[np.isfinite(values)]
    undefined = resamples - len(known)
    if not np.isfinite(value) or len(known) < resamples / 2:
        return BootstrapEstimate(value, np.nan, np.nan, undefined)
    levels = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if method == "bca" and np.ptp(known) > 0:
        levels = _corrected(levels, known, value, statistic, members)
    low, high = np.clip(np.quantile(known, levels), *limits)
    return BootstrapEstimate(value, float(low), float(high), undefined)


def _bags_of(
    members: list[NDArray[np.int64]], drawn: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """The bags of the patients of each row `(resamples, patients)`, one patient's together."""
    order = np.concatenate(members)
    sizes = np.array([len(each) for each in members])
    starts = np.cumsum(sizes) - sizes
    places = np.arange(len(drawn[0]) * sizes.max())
    for row in drawn:
        lengths = sizes[row]
        ends = np.cumsum(lengths)
        yield order[np.repeat(starts[row] - ends + lengths, lengths) + places[: ends[-1]]]


def _pools(
    members: list[NDArray[np.int64]], strata: ArrayLike | None, size: int
) -> list[NDArray[np.int64]]:
    """The numbers of the patients that are drawn among themselves."""
    if strata is None:
        return [np.arange(len(members))]
    classes = np.asarray(strata)
    if classes.shape != (size,):
        raise ValueError(f"expected a stratum for each of {size} bags, got shape {classes.shape}")
    found: dict[tuple[object, ...], list[int]] = {}
    for number, bags in enumerate(members):
        found.setdefault(tuple(np.unique(classes[bags]).tolist()), []).append(number)
    return [np.array(pool) for pool in found.values()]


def _corrected(
    levels: NDArray[np.float64],
    values: NDArray[np.float64],
    value: float,
    statistic: Callable[[NDArray[np.int64]], float],
    members: list[NDArray[np.int64]],
) -> NDArray[np.float64]:
    """The levels of BCa, or those that were given where it has none."""
    near = 1e-12 * max(abs(value), 1)
    share = (np.mean(values < value - near) + np.mean(values <= value + near)) / 2
    without = np.array(
        [
            statistic(np.concatenate(members[:number] + members[number + 1 :]))
            for number in range(len(members))
        ]
    )
    without = without[np.isfinite(without)]
    apart = without.mean() - without
    if not 0 < share < 1 or not (apart**2).sum() > 0:
        return levels
    bias = stats.norm.ppf(share)
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    z = bias + stats.norm.ppf(levels)
    corrected: NDArray[np.float64] = stats.norm.cdf(bias + z / (1 - acceleration * z))
    return corrected
