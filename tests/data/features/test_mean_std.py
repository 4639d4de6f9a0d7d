"""Mean and standard deviation in one pass, against NumPy's two."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milforge.data import feature_moments
from milforge.data.features import mean_std as moments


def two_passes(bags):
    rows = np.concatenate([bag.double().numpy() for bag in bags])
    return rows.mean(0), rows.std(0)


def assert_moments(bags, rtol=1e-12):
    mean, std = feature_moments(bags)
    assert mean.dtype == std.dtype == torch.float64
    expected = two_passes(bags)
    scale = np.abs(expected[0]).max(initial=1e-300) + expected[1].max(initial=0)
    np.testing.assert_allclose(mean, expected[0], rtol=0, atol=rtol * scale)
    np.testing.assert_allclose(std, expected[1], rtol=0, atol=rtol * scale)


def make_bags(seed, sizes, offset=0.0, dtype=torch.float32, shape=(5,)):
    rng = torch.Generator().manual_seed(seed)
    return [(torch.randn((n, *shape), generator=rng) * 3 + offset).to(dtype) for n in sizes]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_they_are_those_of_two_passes(dtype, offset):
    assert_moments(make_bags(0, [3, 1, 700, 20], offset, dtype))


def test_a_mean_far_above_the_deviation_costs_no_digits():
    """E[x^2] - E[x]^2 would give no digit here."""
    bags = make_bags(1, [100] * 20, 1e9, torch.float64)
    _, std = feature_moments(bags)
    np.testing.assert_allclose(std, two_passes(bags)[1], rtol=1e-9)


def test_bags_larger_than_a_chunk_and_instances_of_any_shape():
    assert_moments(make_bags(2, [2 * moments._ROWS + 3, 1], shape=(2, 3)))
    assert_moments([torch.arange(12, dtype=torch.uint8).reshape(4, 3)])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.floats(-1e6, 1e6),
    st.randoms(use_true_random=False),
)
def test_order_and_chunks_do_not_matter(sizes, offset, random):
    bags = make_bags(3, [*sizes, 2], offset, torch.float64)
    rows = torch.cat(bags)
    expected = feature_moments([rows])
    cuts = sorted(random.randrange(len(rows) + 1) for _ in range(random.randrange(5)))
    chunks = list(rows.tensor_split(cuts))
    random.shuffle(chunks)
    scale = 1e-12 * (abs(offset) + 10)
    for computed, wanted in zip(feature_moments(iter(chunks)), expected, strict=True):
        torch.testing.assert_close(computed, wanted, rtol=0, atol=scale)


def test_a_constant_column_deviates_by_rounding_at_most():
    bags = [torch.full((n, 1), 0.1, dtype=torch.float64) for n in (7, 1, 93)]
    mean, std = feature_moments(bags)
    rounding = 101 * torch.finfo(torch.float64).eps  # a sum may round at each of its terms
    assert float(mean) == pytest.approx(0.1, rel=rounding)
    assert float(std) < 0.1 * rounding


def test_one_instance_deviates_by_nothing():
    assert [value.tolist() for value in feature_moments([torch.tensor([[2.0, 3.0]])])] == [
        [2.0, 3.0],
        [0.0, 0.0],
    ]


@pytest.mark.parametrize("bags", [[], [torch.zeros(0, 3)]])
def test_no_instance_is_refused(bags):
    with pytest.raises(ValueError, match="at least one instance"):
        feature_moments(bags)


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"bag 1: expected instances of shape \(3,\).*got \(4,\)"):
        feature_moments([torch.zeros(2, 3), torch.zeros(2, 4)])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_features_that_are_not_finite_are_refused(value):
    bad = torch.zeros(3000, 2)
    bad[2999, 1] = value
    with pytest.raises(ValueError, match="bag 1: expected finite features"):
        feature_moments([torch.zeros(2, 2), bad])
