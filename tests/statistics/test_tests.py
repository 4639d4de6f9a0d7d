"""Corrections, proportions and power against definitions and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from milforge.statistics import (
    benjamini_hochberg,
    clustered_proportion,
    holm,
    pairs_needed,
    power_of_pairs,
    wilson,
)

p_values = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=1, max_size=8)


@given(p_values, st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_step_by_step(p, alpha):
    rejected, m = np.zeros(len(p), bool), len(p)
    for step, number in enumerate(np.argsort(p, kind="stable")):
        if p[number] * (m - step) > alpha + 1e-15:
            break
        rejected[number] = True
    assert (holm(p) <= alpha + 1e-15).tolist() == rejected.tolist()


@given(p_values)
def test_benjamini_hochberg_is_what_it_is_defined_as(p):
    ranked = sorted(p)
    at_rank = [len(p) * value / rank for rank, value in enumerate(ranked, 1)]
    expected = [min(1, *at_rank[ranked.index(value) :]) for value in p]
    np.testing.assert_allclose(benjamini_hochberg(p), expected, rtol=1e-12)


def test_comparisons_without_a_test_count_for_nothing():
    for function in (holm, benjamini_hochberg):
        found = function([0.03, np.nan, 0.01])
        assert np.isnan(found[1])
        np.testing.assert_allclose(found[[0, 2]], function([0.03, 0.01]))
        with pytest.raises(ValueError, match="from 0 to 1"):
            function([1.2])


@pytest.mark.parametrize(("successes", "total"), [(0, 7), (3, 7), (7, 7), (81, 263)])
def test_wilson_is_that_of_scipy(successes, total):
    expected = stats.binomtest(successes, total).proportion_ci(method="wilson")
    found = wilson(successes, total)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    with pytest.raises(ValueError, match="expected 0 <= successes"):
        wilson(total + 1, total)


def test_shares_of_patients():
    generator = np.random.default_rng(0)
    hits = generator.random(30) < 0.7
    alone = clustered_proportion(hits)
    assert alone == wilson(hits.sum(), 30)
    copies = clustered_proportion(np.repeat(hits, 4), np.repeat(range(30), 4).tolist())
    assert copies.value == alone.value
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high), abs=0.015)
    t = stats.t.ppf(0.975, 2)
    assert clustered_proportion([1] * 6, "aabbcc").low == pytest.approx(3 / (3 + t * t))
    bags = {"a": [1, 1, 0], "b": [0], "c": [1, 1], "d": [0, 0, 0, 1]}
    n, p = 10, 0.5
    spread = sum((sum(each) - p * len(each)) ** 2 for each in bags.values()) * 4 / 3
    seen = spread / (n * p * (1 - p) * n / (n - 1))
    alike = (9 + 1 + 4 + 16) / n
    effect = (4 * seen + 2 * alike) / 6  # two patients more
    assert 1 < seen < alike
    found = clustered_proportion([*bags["a"], *bags["b"], *bags["c"], *bags["d"]], "aaabccdddd")
    total, t = n / effect, stats.t.ppf(0.975, 3)
    half = t * np.sqrt(p * (1 - p) / total + t * t / (4 * total**2)) / (1 + t * t / total)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))
    with pytest.raises(ValueError, match="at least one hit"):
        clustered_proportion([])


def test_power_against_simulation():
    generator = np.random.default_rng(0)
    draws = generator.normal(0.8, 1.3, size=(4000, 12))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert power_of_pairs(0.8, 1.3, 12) == pytest.approx(found.mean(), abs=0.025)
    assert power_of_pairs(0, 1, 12) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        power_of_pairs(1, 1, 1)


def test_pairs_needed_is_the_least_number():
    differences = [0.02, 0.01, 0.04, -0.01]
    n = pairs_needed(differences)
    mean, deviation = np.mean(differences), np.std(differences, ddof=1)
    assert power_of_pairs(mean, deviation, n) >= 0.8 > power_of_pairs(mean, deviation, n - 1)
    assert pairs_needed([0.1, 0.1]) == 2
    assert pairs_needed([0.0, 0.0]) is None
    assert pairs_needed([0.1, -0.1]) is None
    with pytest.raises(ValueError, match="two finite"):
        pairs_needed([0.1])
