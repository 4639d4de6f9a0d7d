"""Curves, operating points, calibration and conformal sets against scikit-learn and counting."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from milforge.statistics import (
    average_precision,
    brier_parts,
    class_thresholds,
    clustered_proportion,
    conformal_sets,
    conformal_threshold,
    debiased_ece,
    decision_curve,
    fit_temperature,
    operating_point,
    precision_recall_curve,
    recalibration,
    reliability_bins,
    roc_curve,
    sensitivity_threshold,
    wilson,
    youden_threshold,
)

seeds = st.integers(0, 10**6)


def data(seed, n=30):
    generator = np.random.default_rng(seed)
    labels = np.r_[0, 1, generator.integers(2, size=n - 2)]
    return labels, special.expit(generator.normal(size=n) + labels).round(1 + seed % 2)


def test_nothing_but_numpy_and_scipy_is_imported():
    code = (
        "import sys, milforge.statistics\n"
        "found = {name.split('.')[0] for name in sys.modules}\n"
        "print({'torch', 'sklearn', 'pyarrow', 'matplotlib', 'hydra', 'yaml'} & found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@given(seeds)
def test_curves_are_those_of_scikit_learn(seed):
    labels, p = data(seed)
    fpr, tpr, thresholds = metrics.roc_curve(labels, p, drop_intermediate=False)
    curve = roc_curve(labels, p)
    for mine, theirs in zip(curve, (fpr, tpr, thresholds), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    precision, recall, _ = metrics.precision_recall_curve(labels, p)
    curve = precision_recall_curve(labels, p)
    np.testing.assert_allclose(curve.x[::-1], recall[:-1], atol=1e-12)
    np.testing.assert_allclose(curve.y[::-1], precision[:-1], atol=1e-12)
    expected = metrics.average_precision_score(labels, p)
    assert average_precision(labels, p) == pytest.approx(expected)


@given(seeds)
def test_thresholds_against_all(seed):
    labels, p = data(seed)
    candidates = np.unique(p)

    def rates(threshold):
        called = p >= threshold
        return called[labels == 1].mean(), (~called)[labels == 0].mean()

    best = max(candidates, key=lambda t: (round(sum(rates(t)), 9), t))
    assert youden_threshold(labels, p) == best
    for wanted in (0.5, 0.9, 1.0):
        enough = [t for t in candidates if rates(t)[0] >= wanted - 1e-12]
        assert sensitivity_threshold(labels, p, wanted) == max(enough)


def test_an_operating_point():
    labels, p = data(3)
    found = operating_point(labels, p, 0.5)
    confusion = metrics.confusion_matrix(labels, p >= 0.5).ravel()
    assert found.confusion == tuple(confusion)
    tn, fp, fn, tp = map(int, confusion)
    assert found.sensitivity == wilson(tp, tp + fn)
    assert found.specificity == wilson(tn, tn + fp)
    assert found.positive_value == wilson(tp, tp + fp)
    assert found.negative_value == wilson(tn, tn + fn)
    assert found.accuracy == wilson(tp + tn, 30)
    none = operating_point([0, 0], [0.1, 0.2], 0.5)
    assert (none.sensitivity, none.positive_value) == (None, None)
    wide = operating_point(labels, p, 0.5, np.repeat(range(10), 3))
    assert wide.sensitivity.value == found.sensitivity.value
    with pytest.raises(ValueError, match="wanted sensitivity"):
        sensitivity_threshold(labels, p, 0)


def test_decision_curves_count_bags():
    labels, p = data(5)
    for t, model, everyone in zip(*decision_curve(labels, p, [0, 0.2, 0.5, 0.9]), strict=True):
        true = sum(1 for y, q in zip(labels, p, strict=True) if q >= t and y)
        false = sum(1 for y, q in zip(labels, p, strict=True) if q >= t and not y)
        assert model == pytest.approx(true / 30 - false / 30 * t / (1 - t))
        assert everyone == pytest.approx(labels.mean() - (1 - labels.mean()) * t / (1 - t))
    with pytest.raises(ValueError, match="less than 1"):
        decision_curve(labels, p, [1.0])


@given(seeds)
def test_parts_of_brier(seed):
    labels, p = data(seed)
    parts = brier_parts(labels, p, bins=4)
    assert parts.score == pytest.approx(metrics.brier_score_loss(labels, p))
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert whole == pytest.approx(parts.score)
    bins = reliability_bins(labels, p, bins=4)
    assert sum(each.bags for each in bins) == 30
    assert sum(each.bags * each.predicted for each in bins) / 30 == pytest.approx(p.mean())
    assert sum(each.bags * each.observed.value for each in bins) / 30 == pytest.approx(
        labels.mean()
    )
    expected = sum(n * (q - o.value) ** 2 for n, q, o in bins) / 30
    assert parts.reliability == pytest.approx(expected)


def test_equal_probabilities_are_one_bin_and_have_no_within():
    labels = [0, 1, 1, 0, 1, 1]
    (only,) = reliability_bins(labels, [0.5] * 6)
    assert only.bags == 6
    parts = brier_parts(labels, [0.2, 0.2, 0.2, 0.7, 0.7, 0.7], bins=2)
    assert parts.within == pytest.approx(0)


def test_the_calibration_error_of_calibrated_probabilities_is_small():
    generator = np.random.default_rng(0)
    p = generator.random(400)
    biased, debiased = [], []
    for _ in range(100):
        labels = (generator.random(400) < p).astype(int)
        bins = reliability_bins(labels, p)
        biased.append(sum(n * (q - o.value) ** 2 for n, q, o in bins) / 400)
        debiased.append(debiased_ece(labels, p) ** 2)
    assert np.mean(biased) > 0.004
    assert np.mean(debiased) < 0.4 * np.mean(biased)  # cut off at 0, so not 0 in the mean
    off = np.clip(p + 0.2, 0, 1)
    assert debiased_ece((generator.random(400) < p).astype(int), off) == pytest.approx(
        0.18, abs=0.05
    )


def test_slope_and_intercept_are_those_of_scikit_learn():
    labels, _ = data(0, 200)
    logits = np.random.default_rng(1).normal(size=200) + labels - 0.3
    found = recalibration(labels, special.expit(2 * logits))
    fit = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(2 * logits[:, None], labels)
    assert found.slope.value == pytest.approx(fit.coef_[0, 0], abs=1e-4)
    assert found.intercept.value == pytest.approx(fit.intercept_[0], abs=1e-4)
    assert found.slope.low < found.slope.value < found.slope.high
    shift = found.in_the_large.value
    assert special.expit(2 * logits + shift).mean() == pytest.approx(labels.mean())
    assert recalibration([0, 0], [0.1, 0.2]) is None
    assert recalibration([0, 1], [0.1, 0.2]) is None
    assert recalibration([0, 1, 1], [0.5, 0.5, 0.5]) is None


def by_patient(x, y, p, patients):
    """Variances of the coefficients of a logistic regression, added up patient by patient."""
    bread = np.linalg.inv(
        sum(q * (1 - q) * np.outer(row, row) for row, q in zip(x, p, strict=True))
    )
    sums = [
        sum((y[i] - p[i]) * x[i] for i in np.flatnonzero(patients == one))
        for one in np.unique(patients)
    ]
    meat = sum(np.outer(each, each) for each in sums) * len(sums) / (len(sums) - 1)
    return np.diag(bread @ meat @ bread)


def test_intervals_of_calibration_are_over_patients():
    labels, p = (np.repeat(each, 3) for each in data(3, 40))
    p = p.clip(0.02, 0.98)
    patients = np.repeat([f"patient {i}" for i in range(40)], 3)
    found, bags = recalibration(labels, p, patients), recalibration(labels, p)
    assert [each.value for each in found] == [each.value for each in bags]
    x = np.stack([special.logit(p), np.ones(120)], 1)
    fitted = special.expit(x @ [found.slope.value, found.intercept.value])
    variance = by_patient(x, labels, fitted, patients)
    t = stats.t.ppf(0.975, 39)
    for each, one in zip(found[:2], variance, strict=True):
        assert each.high - each.value == pytest.approx(t * np.sqrt(one), rel=1e-6)
        assert each.value - each.low == pytest.approx(t * np.sqrt(one), rel=1e-6)
    assert found.slope.high - found.slope.low > 1.5 * (bags.slope.high - bags.slope.low)
    # A patient each is no other thing than bags; nor is a variance below theirs believed.
    assert recalibration(labels, p, np.arange(120)) == bags
    assert np.isnan(recalibration(labels, p, ["one"] * 120).slope.low)
    (bin_,) = reliability_bins(labels, [0.5] * 120, clusters=patients)
    assert bin_.observed == clustered_proportion(labels, patients)
    (bin_,) = reliability_bins(labels, [0.5] * 120)
    assert bin_.observed == wilson(labels.sum(), 120)


def test_temperature_against_a_grid():
    generator = np.random.default_rng(0)
    grid = np.exp(np.linspace(-1, 2, 3_001))
    z = generator.normal(size=100) * 3
    y = (generator.random(100) < special.expit(z / 2)).astype(int)
    signed = z * (2 * y - 1)
    best = grid[np.argmin(np.log1p(np.exp(-signed / grid[:, None])).mean(1))]
    assert fit_temperature(z, y) == pytest.approx(best, rel=1e-3)
    assert fit_temperature(z[:, None], y[:, None]) == pytest.approx(fit_temperature(z, y))
    several = generator.normal(size=(100, 3)) * 3
    of = np.array([generator.choice(3, p=special.softmax(each / 2)) for each in several])
    best = min(grid[::30], key=lambda t: metrics.log_loss(of, special.softmax(several / t, 1)))
    assert fit_temperature(several, of) == pytest.approx(best, rel=0.03)
    assert fit_temperature([2.0, -2.0], [1, 0]) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="some bags"):
        fit_temperature([], [])


@pytest.mark.parametrize("function", [brier_parts, reliability_bins, debiased_ece, recalibration])
def test_labels_and_probabilities_that_are_none_are_refused(function):
    with pytest.raises(ValueError, match=r"probabilities \(n,\), got \(2,\) and \(1,\)"):
        function([0, 1], [0.5])
    with pytest.raises(ValueError, match=r"probabilities \(n,\), got \(0,\) and \(0,\)"):
        function([], [])
    for labels, p in (([0, 2], [0.1, 0.2]), ([0, 1], [0.1, 1.2]), ([0, 1], [0.1, np.nan])):
        with pytest.raises(ValueError, match="labels of 0 and 1 and probabilities from 0 to 1"):
            function(labels, p)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"probabilities \(n,\), got \(2,\) and \(1,\)"):
        decision_curve([0, 1], [0.5], [0.5])
    for p in ([[0.1, 0.9]], [0.1, 0.9]):
        with pytest.raises(ValueError, match=r"probabilities \(n, C\) and labels \(n,\)"):
            class_thresholds(p, [0, 1])
    for z, y in (([[1.0, 2.0]], [0, 1]), ([[1.0], [2.0]], [0, 1])):
        with pytest.raises(ValueError, match="expected logits and labels of some bags"):
            fit_temperature(z, y)


def test_conformal_quantiles_count_ranks():
    scores = [0.5, 0.1, 0.4, 0.2, 0.3, 0.9, 0.8, 0.7, 0.6]
    assert conformal_threshold(scores, 0.1) == 0.9  # ceil(10 * 0.9) = 9 of 9
    assert conformal_threshold(scores, 0.2) == 0.8
    assert conformal_threshold(scores, 0.05) == np.inf
    with pytest.raises(ValueError, match="alpha between"):
        conformal_threshold(scores, 1)


def test_a_class_of_few_patients_has_the_threshold_of_all():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    found = class_thresholds(p, [0, 0, 0, 1], list("aabc"), alpha=1 / 3)
    # Class 0 has two patients, of worst scores 0.4 and 0.3; class 1 one, too few for its own.
    assert found == pytest.approx([0.4, 0.4])
    assert conformal_sets(p, found).tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]


def test_conformal_sets_cover_new_patients_of_each_class():
    generator = np.random.default_rng(0)

    def cohort(patients):
        labels = generator.integers(2, size=patients)
        person = generator.normal(size=patients)
        scores = 1.5 * (2 * labels - 1) + person
        bags = np.repeat(range(patients), 2)
        p = special.expit(scores[bags] + 0.5 * generator.normal(size=2 * patients))
        return np.stack([1 - p, p], 1), labels[bags], bags

    held: dict[int, list[bool]] = {0: [], 1: []}
    for _ in range(150):
        thresholds = class_thresholds(*cohort(60), alpha=0.1)
        p, labels, bags = cohort(40)
        covered = np.take_along_axis(conformal_sets(p, thresholds), labels[:, None], 1)[:, 0]
        for patient in range(40):
            mine = bags == patient
            held[labels[mine][0]].append(covered[mine].all())
    for each in held.values():
        assert 0.89 < np.mean(each) < 0.95
