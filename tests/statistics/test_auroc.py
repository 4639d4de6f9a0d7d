"""Against pairs counted one by one, sums within patients, scikit-learn, and a grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from milforge.statistics import auroc, auroc_interval, compare_auroc, delong


def data(seed, n=24, models=3, patients=9, ties=True):
    generator = np.random.default_rng(seed)
    labels = np.r_[0, 0, 1, 1, generator.integers(2, size=n - 4)]
    scores = generator.normal(size=(models, n)) + labels
    clusters = generator.integers(patients, size=n)
    return labels, scores.round(1) if ties else scores, clusters


def psi(labels, scores):
    """(m, n): 1 where the positive bag is above, 1/2 where equal."""
    x, y = scores[labels == 1][:, None], scores[labels == 0][None, :]
    return (x > y) + 0.5 * (x == y)


def by_hand(labels, scores, clusters):
    """Obuchowski 1997, patient by patient."""
    kernels = [psi(labels, each) for each in scores]
    areas = [kernel.mean() for kernel in kernels]
    m, n = kernels[0].shape
    names = np.unique(clusters)
    of_x, of_y = clusters[labels == 1], clusters[labels == 0]
    e10 = np.array([[(k.mean(1) - a)[of_x == c].sum() for c in names]
                    for k, a in zip(kernels, areas, strict=True)])  # fmt: skip
    e01 = np.array([[(k.mean(0) - a)[of_y == c].sum() for c in names]
                    for k, a in zip(kernels, areas, strict=True)])  # fmt: skip
    i10, i01, total = len(set(of_x)), len(set(of_y)), len(names)
    s10 = e10 @ e10.T * i10 / ((i10 - 1) * m)
    s01 = e01 @ e01.T * i01 / ((i01 - 1) * n)
    s11 = e10 @ e01.T * total / (total - 1)
    return areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


@pytest.mark.parametrize("seed", range(5))
def test_clustered_covariance_against_sums_patient_by_patient(seed):
    labels, scores, clusters = data(seed)
    areas, covariance = by_hand(labels, scores, clusters)
    found = delong(labels, scores, clusters.tolist())
    np.testing.assert_allclose(found.values, areas, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-10, atol=1e-15)
    assert found.design.min() >= 1


def test_bags_alone_are_delong():
    labels, scores, _ = data(7)
    kernels = [psi(labels, each) for each in scores]
    m, n = kernels[0].shape
    s10 = np.cov([kernel.mean(1) for kernel in kernels])
    s01 = np.cov([kernel.mean(0) for kernel in kernels])
    found = delong(labels, scores)
    np.testing.assert_allclose(found.covariance, s10 / m + s01 / n, rtol=1e-10)
    np.testing.assert_allclose(found.design, 1)


@given(st.integers(0, 10**6))
def test_auroc_is_that_of_scikit_learn(seed):
    labels, scores, _ = data(seed)
    assert auroc(labels, scores[0]) == pytest.approx(roc_auc_score(labels, scores[0]), abs=1e-12)


def test_bags_of_a_patient_that_are_copies_say_no_more_than_one():
    labels, scores, _ = data(3, n=30, ties=False)
    alone = auroc_interval(labels, scores[0])
    copies = auroc_interval(np.repeat(labels, 5), np.repeat(scores[0], 5), np.repeat(range(30), 5))
    assert copies.value == pytest.approx(alone.value)
    assert copies.low == pytest.approx(alone.low, abs=0.01)
    assert copies.high == pytest.approx(alone.high, abs=0.01)
    blind = auroc_interval(np.repeat(labels, 5), np.repeat(scores[0], 5))
    assert blind.high - blind.low < 0.7 * (alone.high - alone.low)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1], [0] * 9 + [1]])
@given(st.data())
def test_newcombe_holds_what_its_inequality_holds(labels, data):
    scores = data.draw(st.lists(st.integers(0, 5), min_size=len(labels), max_size=len(labels)))
    found = auroc_interval(labels, scores)
    m, n = sum(labels), len(labels) - sum(labels)
    t = np.linspace(0, 1, 20_001)
    star = (m + n) / 2 - 1
    variance = t * (1 - t) * (1 + star * (1 - t) / (2 - t) + star * t / (1 + t)) / (m * n)
    held = t[np.abs(t - found.value) <= stats.norm.ppf(0.975) * np.sqrt(variance) + 1e-12]
    assert found.low == pytest.approx(held.min(), abs=1e-4)
    assert found.high == pytest.approx(held.max(), abs=1e-4)
    assert 0 <= found.low < found.high <= 1


@pytest.mark.parametrize("method", ["delong", "logit"])
def test_wald_intervals(method):
    labels, scores, _ = data(1, n=60)
    found = auroc_interval(labels, scores[0], method=method, confidence=0.9)
    covariance = delong(labels, scores[0]).covariance
    half = stats.norm.ppf(0.95) * np.sqrt(covariance[0, 0])
    ends = found.value + np.array([-half, half])
    if method == "logit":
        scale = found.value * (1 - found.value)
        ends = stats.logistic.cdf(stats.logistic.ppf(found.value) + np.array([-half, half]) / scale)
    np.testing.assert_allclose((found.low, found.high), ends, rtol=1e-12)
    parted = auroc_interval([0, 0, 1, 1], [1, 2, 3, 4], method=method)
    assert parted == (1.0, 1.0, 1.0)


def test_a_paired_comparison():
    labels, scores, clusters = data(2, n=40)
    areas, covariance = by_hand(labels, scores[:2], clusters)
    found = compare_auroc(labels, scores[0], scores[1], clusters)
    se = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.value == pytest.approx(areas[1] - areas[0])
    assert found.z == pytest.approx((areas[1] - areas[0]) / se)
    assert found.p == pytest.approx(2 * (1 - stats.norm.cdf(abs(found.z))))
    assert -1 <= found.low < found.value < found.high <= 1
    back = compare_auroc(labels, scores[1], scores[0], clusters)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )


def test_the_interval_of_a_difference_agrees_with_p():
    labels, scores, clusters = data(4, n=60, ties=False)
    found = compare_auroc(labels, scores[0], scores[1], clusters)
    at_p = compare_auroc(labels, scores[0], scores[1], clusters, confidence=1 - found.p)
    assert min(abs(at_p.low), abs(at_p.high)) == pytest.approx(0, abs=1e-9)
    few = compare_auroc([0, 0, 1, 1], [1, 4, 2, 3], [4, 3, 2, 1], confidence=0.999)
    assert (few.low, few.high) == (-1, 1)


def test_comparisons_without_a_variance():
    labels = [0, 0, 1, 1]
    same = compare_auroc(labels, [1, 2, 3, 4], [1, 2, 3, 5])
    assert (same.value, same.z, same.p) == (0, None, 1)
    assert same.low < 0 < same.high
    opposite = compare_auroc(labels, [1, 2, 3, 4], [4, 3, 2, 1])
    assert (opposite.value, opposite.z, opposite.p) == (-1, None, None)
    assert opposite.low >= -1
    one = compare_auroc([0, 0, 1], [1, 2, 3], [1, 3, 2])
    assert one.p is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1, 2], [1, 2, 3]), "labels of 0 and 1, got"),
        (([0, 0], [1, 2]), "both classes, got one"),
        (([0, 1], [1, np.nan]), "finite scores"),
        (([0, 1], [1, 2, 3]), "got shapes"),
        (([0, 1], [1, 2], ["a"]), "a cluster for each of 2 bags, got 1"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        auroc_interval(*arguments)
    with pytest.raises(ValueError, match="one model, got those of 2"):
        auroc_interval([0, 1], [[1, 2], [1, 2]])
    with pytest.raises(ValueError, match="expected method"):
        auroc_interval([0, 1], [1, 2], method="wald")
