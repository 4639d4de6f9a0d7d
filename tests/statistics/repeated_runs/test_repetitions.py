"""Against enumeration of every resample and every flip, and closed forms."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from milforge.report.analysis.ranges import range_of
from milforge.statistics.repeated_runs.repetitions import bootstrap_interval, compare_pairs

# Multiples of 1/1024: sums are exact, so equal means are equal numbers in any order.
exact = st.integers(-1024, 1024).map(lambda number: number / 1024)


def stands_at(value, means, level, slack=0.006):
    """Whether a value is the quantile of equally likely means, but for the error of sampling."""
    means = np.asarray(means)
    below, up_to = np.mean(means < value - 1e-12), np.mean(means <= value + 1e-12)
    return below <= level + slack and up_to >= level - slack


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.6, 0.7, 1.5], [0.7, 0.71, 0.73, 0.9, 0.2, 0.65]])
def test_bca_against_all_resamples(values):
    means = np.array([np.mean(draw) for draw in product(values, repeat=len(values))])
    mean = np.mean(values)
    share = (np.mean(means < mean - 1e-12) + np.mean(means <= mean + 1e-12)) / 2
    bias = stats.norm.ppf(share)
    jackknife = np.array([np.mean(np.delete(values, i)) for i in range(len(values))])
    apart = jackknife.mean() - jackknife
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    low, high = bootstrap_interval(values, resamples=99_999)
    for end, level in ((low, 0.025), (high, 0.975)):
        z = bias + stats.norm.ppf(level)
        assert stands_at(end, means, stats.norm.cdf(bias + z / (1 - acceleration * z)))


def test_three_values_give_their_range():
    """All three draws alike has probability 1/27, more than either tail."""
    assert bootstrap_interval([0.81, 0.9, 0.84]) == pytest.approx((0.81, 0.9), abs=0.02)


@pytest.mark.parametrize(
    "parts",
    [
        [[0.1, 0.4], [0.5, 0.7], [0.6, 1.0]],
        [[0.1, 0.4, 0.2], [0.5], [0.6, 1.0]],  # with unequal numbers
    ],
)
def test_folds_then_seeds_against_all_resamples(parts):
    means, weights = [], []
    for drawn in product(parts, repeat=len(parts)):
        for inner in product(*(product(part, repeat=len(part)) for part in drawn)):
            means.append(np.mean([value for draw in inner for value in draw]))
            weights.append(np.prod([float(len(part)) ** -len(part) for part in drawn]))
    order = np.argsort(means, kind="stable")
    means, weights = np.array(means)[order], np.array(weights)[order] / np.sum(weights)
    values = [value for part in parts for value in part]
    folds = [number for number, part in enumerate(parts) for _ in part]
    ends = bootstrap_interval(values, folds, resamples=99_999)
    for end, level in zip(ends, (0.025, 0.975), strict=True):
        assert weights[means < end - 1e-12].sum() <= level + 0.004
        assert weights[means <= end + 1e-12].sum() >= level - 0.004


def test_seeds_of_a_fold_are_no_independent_runs():
    """Ten seeds that agree within each of three folds say no more than the three folds."""
    folds = np.repeat([0, 1, 2], 10)
    values = np.repeat([0.6, 0.7, 0.9], 10)
    low, high = bootstrap_interval(values, folds)
    alone_low, alone_high = bootstrap_interval(values)
    assert (low, high) == pytest.approx((0.6, 0.9))
    assert alone_low > 0.65
    assert alone_high < 0.8
    assert compare_pairs(values, folds).p == 0.25
    assert compare_pairs(values).p < 0.001


def test_one_run_a_fold_or_one_fold_is_one_row():
    values = [0.2, 0.5, 0.4, 0.9]
    assert bootstrap_interval(values, [3, 1, 0, 2]) == bootstrap_interval(values)
    assert bootstrap_interval(values, ["a"] * 4) == bootstrap_interval(values)


def test_two_values_or_two_folds_give_students_t():
    low, high = stats.t.interval(0.95, 1, 0.8, stats.sem([0.7, 0.9]))
    assert bootstrap_interval([0.7, 0.9]) == pytest.approx((low, high))
    nested = bootstrap_interval([0.6, 0.8, 0.9, 0.9], [0, 0, 1, 1])
    assert nested == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("test/auroc", [0.7, 0.9], (0.0, 1.0)),
        ("test/auroc_malignant", [0.7, 0.9], (0.0, 1.0)),
        ("test/inst_ap", [0.98, 0.99], (None, 1.0)),
        ("test/mae", [1.0, 3.0], (0.0, None)),
        ("test/r2", [0.5, 0.9], (None, 1.0)),
        ("test/pearson", [0.5, 0.9], (-1.0, 1.0)),
        ("test/loss", [0.5, 0.9], (None, None)),
        ("test/volume", [0.5, 0.9], (None, None)),
        ("test/auroc", [70.0, 90.0], (0.0, None)),  # another metric of that name, in per cent
    ],
)
def test_students_t_is_cut_off_where_the_metric_has_no_values(metric, values, expected):
    low, high = stats.t.interval(0.95, 1, np.mean(values), stats.sem(values))
    low, high = (
        end if bound is None else bound for end, bound in zip((low, high), expected, strict=True)
    )
    assert bootstrap_interval(values, within=range_of(metric)) == pytest.approx((low, high))


def test_a_difference_is_cut_off_at_the_whole_range():
    differences = [0.1, 0.5]
    low, high = stats.t.interval(0.95, 1, 0.3, stats.sem(differences))
    assert low < -1
    assert high > 1
    found = compare_pairs(differences, within=range_of("test/auroc").of_differences())
    assert found.interval == (-1, 1)
    found = compare_pairs(differences, within=range_of("test/mae").of_differences())
    assert found.interval == pytest.approx((low, high))


def test_one_value_or_one_pair_says_nothing():
    assert bootstrap_interval([0.7]) is None
    comparison = compare_pairs([0.1])
    assert comparison == (1, 1, 0.1, None, None)


def test_equal_values_give_a_point():
    assert bootstrap_interval([0.5] * 6, [0, 0, 1, 1, 2, 2]) == (0.5, 0.5)
    assert bootstrap_interval([0.5] * 6) == (0.5, 0.5)
    assert compare_pairs([0.0] * 6).p == 1


@given(st.lists(exact, min_size=3, max_size=12), st.sampled_from([1, 3, 4]))
def test_an_interval_lies_within_the_values_and_repeats(values, number):
    folds = [i % number for i in range(len(values))]
    low, high = bootstrap_interval(values, folds, resamples=499)
    assert min(values) <= low <= high <= max(values)
    assert (low, high) == bootstrap_interval(values, folds, resamples=499)


@given(st.lists(exact, min_size=2, max_size=8))
def test_p_against_all_flips(differences):
    flips = np.array(list(product((-1, 1), repeat=len(differences))))
    sums = flips @ np.array(differences)
    expected = np.mean(np.abs(sums) >= abs(sum(differences)) - 1e-12)
    comparison = compare_pairs(differences, resamples=999)
    assert comparison.p == pytest.approx(expected)
    assert comparison.p >= 2 / 2 ** len(differences)
    assert comparison.difference == pytest.approx(np.mean(differences))
    assert (comparison.pairs, comparison.units) == (len(differences),) * 2


@given(st.lists(exact, min_size=4, max_size=10))
def test_differences_of_a_fold_flip_together(differences):
    folds = [i % 4 for i in range(len(differences))]
    totals = [sum(differences[i::4]) for i in range(4)]
    sums = np.array(list(product((-1, 1), repeat=4))) @ np.array(totals)
    comparison = compare_pairs(differences, folds, resamples=999)
    assert comparison.p == pytest.approx(np.mean(np.abs(sums) >= abs(sum(totals)) - 1e-12))
    assert (comparison.pairs, comparison.units) == (len(differences), 4)


def test_many_pairs_are_sampled():
    differences = np.random.default_rng(0).normal(0.4, 1, size=16)
    sums = np.array(list(product((-1, 1), repeat=16))) @ differences
    expected = np.mean(np.abs(sums) >= abs(differences.sum()))
    assert 0.02 < expected < 0.9
    assert compare_pairs(differences).p == pytest.approx(expected, abs=0.02)


def test_the_interval_of_a_comparison_is_that_of_its_differences():
    differences, folds = [0.1, 0.3, -0.1, 0.2, 0.0, 0.4], [0, 0, 1, 1, 2, 2]
    expected = bootstrap_interval(differences, folds)
    assert compare_pairs(differences, folds).interval == expected


@pytest.mark.parametrize(
    ("values", "folds", "message"),
    [
        ([], None, "at least one value"),
        ([[0.1, 0.2]], None, "shape"),
        ([0.1, np.nan], None, "NaN or infinity"),
        ([0.1, 0.2], [0], "a fold for each of 2 values, got 1"),
    ],
)
@pytest.mark.parametrize("function", [bootstrap_interval, compare_pairs])
def test_refusals(function, values, folds, message):
    with pytest.raises(ValueError, match=message):
        function(values, folds)
