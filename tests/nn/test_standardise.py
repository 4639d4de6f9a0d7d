"""Standardised features: against scikit-learn, and what becomes of constant ones."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from milforge.data import feature_moments
from milforge.nn import Standardise


def test_it_is_the_scaler_of_scikit_learn():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 6)) * [1, 10, 100, 1e-3, 1, 0] + [0, 5, -300, 1, 1e3, 7]
    computed = Standardise(*feature_moments([torch.from_numpy(rows)]))(torch.from_numpy(rows))
    np.testing.assert_allclose(computed, StandardScaler().fit_transform(rows), atol=3e-4)
    np.testing.assert_allclose(computed[:, :3], StandardScaler().fit_transform(rows)[:, :3], 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_result_is_float32_of_the_shape_given(dtype):
    standardise = Standardise(torch.full((2, 3), 2.0), torch.full((2, 3), 4.0))
    x = torch.full((5, 2, 3), 10.0, dtype=dtype)
    y = standardise(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, torch.full((5, 2, 3), 2.0))
    assert standardise(x[:0]).shape == (0, 2, 3)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7e5, 1e-7, 60000.0])
def test_a_constant_feature_gives_zeros(value):
    """Its computed deviation is rounding: about 1e-17 for the published tables of Elephant."""
    rows = torch.full((1391, 2), value)
    rows[:, 1] = torch.randn(1391, generator=torch.Generator().manual_seed(0))
    mean, std = feature_moments(rows.split(100))
    assert float(std[0]) <= 1e-14 * abs(value)
    y = Standardise(mean, std)(rows)
    assert torch.equal(y[:, 0], torch.zeros(1391))
    assert float(y[:, 1].std(correction=0)) == pytest.approx(1, rel=1e-5)


def test_the_bound_of_a_constant_is_a_millionth_of_the_mean():
    mean, std = torch.full((2,), 100.0), torch.tensor([0.9e-4, 1.1e-4])
    constant, varying = Standardise(mean, std)(mean[None] + 0.05)[0].tolist()
    assert constant == 0
    assert varying == pytest.approx(5, rel=1e-3)


def test_the_deviation_has_a_floor_of_a_ten_thousandth_of_the_mean():
    mean, std = torch.full((2,), -100.0), torch.tensor([1e-3, 0.02])
    y = Standardise(mean, std, clip=None)(mean[None] + 1)
    torch.testing.assert_close(y, torch.tensor([[100.0, 50.0]]))


def test_a_feature_that_was_all_but_constant_in_training_is_not_blown_up():
    """A deviation of 1e-5 about 0 has no floor by the mean: the clip bounds it."""
    rng = torch.Generator().manual_seed(0)
    train = 1e-5 * torch.randn(1000, 1, generator=rng)
    moments = feature_moments([train])
    test = torch.tensor([[18.5], [-18.5], [2e-5]])
    unclipped = Standardise(*moments, clip=None)(test)
    assert float(unclipped[0]) > 1.7e6
    y = Standardise(*moments)(test)
    assert y[:2].tolist() == [[10.0], [-10.0]]
    assert torch.equal(y[2], unclipped[2])
    assert float(Standardise(*moments, clip=3)(test)[0]) == 3


def test_a_hundred_constant_columns_stay_zero_in_new_bags():
    rng = torch.Generator().manual_seed(0)
    constants = torch.linspace(-1e4, 1e4, 100).expand(500, 100)
    train = torch.cat([constants, torch.randn(500, 2, generator=rng)], 1)
    y = Standardise(*feature_moments([train]))(train * 1.5)
    assert torch.equal(y[:, :100], torch.zeros(500, 100))
    assert bool(y.isfinite().all())


@pytest.mark.parametrize("clip", [0, -1.0, float("nan")])
def test_a_clip_that_is_none_is_refused(clip):
    with pytest.raises(ValueError, match="standardise_clip above 0"):
        Standardise(torch.zeros(1), torch.ones(1), clip)


def test_a_small_deviation_of_a_small_feature_counts():
    standardise = Standardise(torch.tensor([0.0, 1e-8]), torch.tensor([1e-9, 1e-9]))
    y = standardise(torch.tensor([[1e-9, 1.5e-8]]))
    torch.testing.assert_close(y, torch.tensor([[1.0, 5.0]]))


def test_a_checkpoint_carries_it():
    mean, std = torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0])
    stored = Standardise(mean, std, clip=1.5).state_dict()
    assert sorted(stored) == ["clip", "mean", "std"]
    other = Standardise(torch.zeros(2), torch.ones(2))
    other.load_state_dict(stored)
    x = torch.tensor([[5.0, 6.0], [0.0, 5.0]])
    assert torch.equal(other(x), torch.tensor([[1.5, 0.0], [-0.5, 0.0]]))


def test_it_has_nothing_to_learn_and_keeps_its_own_copy():
    mean = torch.zeros(2)
    standardise = Standardise(mean, torch.ones(2))
    mean += 7
    assert list(standardise.parameters()) == []
    assert torch.equal(standardise(torch.ones(1, 2)), torch.ones(1, 2))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.0, 0.0], [1.0], r"one shape, got \(2,\) and \(1,\)"),
        ([torch.nan], [1.0], "finite"),
        ([0.0], [torch.inf], "finite"),
        ([0.0], [-1.0], "0 or more"),
    ],
)
def test_statistics_that_are_none_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Standardise(torch.tensor(mean), torch.tensor(std))


def test_instances_of_another_width_are_refused():
    standardise = Standardise(torch.zeros(3), torch.ones(3))
    for x in (torch.zeros(4, 2), torch.zeros(4, 1), torch.zeros(3)):
        with pytest.raises(ValueError, match=r"instances of shape \(3,\)"):
            standardise(x)


def test_gradients_pass_through_and_stop_where_it_clips():
    standardise = Standardise(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0]), 2.0).double()
    x = torch.tensor([[1.3, 5.0], [9.0, -20.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(standardise, x)
    (gradient,) = torch.autograd.grad(standardise(x).sum(), x)
    assert gradient.tolist() == [[2.0, 0.25], [0.0, 0.0]]
