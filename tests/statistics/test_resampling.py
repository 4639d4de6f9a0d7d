"""Bootstrap and permutation against every sample and every swap."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from milforge.statistics import auroc, cluster_bootstrap, paired_permutation


def weighted_quantile_is(value, values, level, slack=0.02):
    values = np.asarray(values)
    below, up_to = np.mean(values < value - 1e-12), np.mean(values <= value + 1e-12)
    return below <= level + slack and up_to >= level - slack


VALUES = np.array([0.1, 0.9, 0.4, 0.45, 0.7, 1.3, 0.2])
CLUSTERS = np.array(list("aabbbcd"))


def all_means():
    parts = [VALUES[name == CLUSTERS] for name in "abcd"]
    draws = product(range(4), repeat=4)
    return np.array([np.concatenate([parts[i] for i in draw]).mean() for draw in draws])


def test_percentiles_against_all_draws_of_patients():
    found = cluster_bootstrap(
        lambda i: VALUES[i].mean(), 7, CLUSTERS, method="percentile", resamples=5000
    )
    assert found.value == pytest.approx(VALUES.mean())
    assert weighted_quantile_is(found.low, all_means(), 0.025)
    assert weighted_quantile_is(found.high, all_means(), 0.975)


def test_bca_against_all_draws_of_patients():
    means, mean = all_means(), VALUES.mean()
    share = (np.mean(means < mean - 1e-12) + np.mean(means <= mean + 1e-12)) / 2
    jackknife = np.array([VALUES[name != CLUSTERS].mean() for name in "abcd"])
    apart = jackknife.mean() - jackknife
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    found = cluster_bootstrap(lambda i: VALUES[i].mean(), 7, CLUSTERS, resamples=5000)
    for end, level in ((found.low, 0.025), (found.high, 0.975)):
        z = stats.norm.ppf(share) + stats.norm.ppf(level)
        corrected = stats.norm.cdf(stats.norm.ppf(share) + z / (1 - acceleration * z))
        assert weighted_quantile_is(end, means, corrected)


def test_bags_of_their_own_agree_with_scipy():
    values = np.random.default_rng(1).gamma(2, size=40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=5000, random_state=np.random.default_rng(0)
    ).confidence_interval
    found = cluster_bootstrap(lambda i: values[i].mean(), 40, resamples=5000)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_strata_keep_their_numbers_and_undefined_samples_are_counted():
    labels = np.array([0, 0, 1, 1, 0, 1])
    clusters = list("aabbcc")  # a negative, a positive, a mixed patient
    seen = []

    def statistic(bags):
        seen.append(sorted(labels[bags]))
        return 0.5

    found = cluster_bootstrap(statistic, 6, clusters, strata=labels, resamples=50)
    assert all(each == [0, 0, 0, 1, 1, 1] for each in seen[:50])
    assert (found.low, found.high, found.undefined) == (0.5, 0.5, 0)

    def sometimes(bags):
        return float("nan") if labels[bags].min() == labels[bags].max() else 0.5

    found = cluster_bootstrap(sometimes, 6, clusters, resamples=300)
    assert 0 < found.undefined < 150
    assert found.low == 0.5
    assert np.isnan(cluster_bootstrap(lambda _: float("nan"), 6, resamples=50).low)


def test_the_interval_stays_within_the_limits():
    values = np.r_[np.zeros(5), 1]
    found = cluster_bootstrap(lambda i: values[i].mean() * 1.5, 6, limits=(0, 1), resamples=200)
    assert (found.low, found.high) == (0, 1)


def test_permutation_against_all_swaps():
    generator = np.random.default_rng(0)
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 0, 0, 1])
    clusters = np.array([0, 0, 1, 1, 2, 3, 3, 4, 5, 5])
    one, two = generator.normal(size=10) + 2 * labels, generator.normal(size=10)
    ranks = np.stack([stats.rankdata(one), stats.rankdata(two)])
    observed = auroc(labels, two) - auroc(labels, one)
    large = []
    for swaps in product((0, 1), repeat=6):
        swap = np.array(swaps)[clusters]
        columns = np.arange(10)
        difference = auroc(labels, ranks[1 - swap, columns]) - auroc(labels, ranks[swap, columns])
        large.append(abs(difference) >= abs(observed) - 1e-12)
    found = paired_permutation(
        lambda s: auroc(labels, s), one, two, clusters.tolist(), ranks=True, draws=3000
    )
    assert found.difference == pytest.approx(observed)
    assert 0.02 < np.mean(large) < 0.9
    assert found.p == pytest.approx(np.mean(large), abs=0.025)


def test_p_is_never_zero_and_rows_are_swapped_whole():
    first = np.tile([1.0, 0.0], (40, 1))

    def statistic(p):
        assert set(map(tuple, p)) <= {(1.0, 0.0), (0.0, 1.0)}
        return p[:, 0].mean()

    found = paired_permutation(statistic, first, first[:, ::-1], draws=99)
    assert (found.difference, found.p) == (-1, 0.01)


def test_a_difference_without_a_value_has_no_p():
    first, draws = np.arange(8.0), iter([0.5, 0.0] + [np.nan] * 198)
    assert np.isnan(paired_permutation(lambda p: np.nan, first, first, draws=9).p)
    # A draw without a value is no evidence.
    assert paired_permutation(lambda p: next(draws), first, first, draws=99).p == 1


def test_refusals():
    with pytest.raises(ValueError, match="two patients to draw from, got 1"):
        cluster_bootstrap(lambda _: 0.0, 2, "aa")
    with pytest.raises(ValueError, match="stratum for each of 2"):
        cluster_bootstrap(lambda _: 0.0, 2, strata=[1])
    with pytest.raises(ValueError, match="expected method"):
        cluster_bootstrap(lambda _: 0.0, 2, method="t")
    with pytest.raises(ValueError, match="one shape"):
        paired_permutation(np.mean, [1, 2], [1, 2, 3])
