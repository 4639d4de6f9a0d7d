"""Metrics of numbers against scikit-learn and SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from milforge.metrics import MAE, R2, RMSE, Pearson, Spearman, build_metrics

ORACLES = {
    "mae": (MAE, lambda p, y: mean_absolute_error(y, p)),
    "rmse": (RMSE, lambda p, y: root_mean_squared_error(y, p)),
    "r2": (R2, lambda p, y: r2_score(y, p)),
    "pearson": (Pearson, lambda p, y: pearsonr(p, y).statistic),
    "spearman": (Spearman, lambda p, y: spearmanr(p, y).statistic),
}


def collection(outputs=1):
    own = {name: metric(outputs) for name, (metric, _) in ORACLES.items()}
    return build_metrics(own, {}, ["preds", "target"])


def make_numbers(outputs=1, seed=0, bags=40, offset=0.0):
    """Rounded to quarters, so that there are ties and float32 is exact."""
    generator = torch.Generator().manual_seed(seed)
    y = offset + (8 * torch.rand(bags, outputs, generator=generator)).round() / 4
    p = y + (8 * torch.randn(bags, outputs, generator=generator)).round() / 4
    return (p[:, 0], y[:, 0]) if outputs == 1 else (p, y)


@pytest.mark.parametrize("offset", [0.0, 2020.0, -1e5])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_agree_over_several_batches(seed, outputs, offset):
    p, y = make_numbers(outputs, seed, offset=offset)
    metrics = collection(outputs)
    for part in (slice(0, 1), slice(1, 13), slice(13, 40)):
        metrics.update(preds=p[part], target=y[part])
    computed = metrics.compute()
    for name, (_, oracle) in ORACLES.items():
        columns = zip(p.reshape(40, -1).double().T, y.reshape(40, -1).double().T, strict=True)
        expected = np.array([oracle(*column) for column in columns])
        assert computed[name].dtype == torch.float32
        assert computed[name].shape == (() if outputs == 1 else (outputs,))
        np.testing.assert_allclose(computed[name], expected.squeeze(), rtol=1e-6, err_msg=name)


@given(
    y=st.lists(st.integers(-5, 5), min_size=2, max_size=20),
    scale=st.sampled_from([0.5, 2.0, 64.0]),
    shift=st.integers(-100, 100),
    seed=st.integers(0, 2**31 - 1),
)
def test_laws(y, scale, shift, seed):
    y = torch.tensor(y).float()
    p = torch.randint(-5, 6, y.shape, generator=torch.Generator().manual_seed(seed)).float()

    def values(p, y):
        metrics = collection()
        metrics.update(preds=p, target=y)
        return {name: float(value) for name, value in metrics.compute().items()}

    plain, changed = values(p, y), values(scale * p + shift, scale * y + shift)
    for name in ("r2", "pearson", "spearman"):  # free of unit and origin
        assert changed[name] == pytest.approx(plain[name], rel=1e-6, abs=1e-6, nan_ok=True)
    for name in ("mae", "rmse"):
        assert changed[name] == pytest.approx(scale * plain[name], rel=1e-6)
    assert plain["mae"] <= plain["rmse"] + 1e-6
    perfect = values(y, y)
    assert (perfect["mae"], perfect["rmse"]) == (0, 0)
    if len(set(y.tolist())) > 1:
        for name in ("r2", "pearson", "spearman"):
            assert perfect[name] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_what_is_undefined_is_nan_without_a_warning(value):
    alike, different = torch.full((3,), value), torch.tensor([1.0, 2.0, 4.0])
    for p, y, undefined in (
        (different, alike, {"r2", "pearson", "spearman"}),
        (alike, different, {"pearson", "spearman"}),
        (different[:1], alike[:1], {"r2", "pearson", "spearman"}),
        (torch.tensor([1.0, torch.nan]), different[:2], set(ORACLES)),
    ):
        metrics = collection()
        metrics.update(preds=p, target=y)
        assert {name for name, each in metrics.compute().items() if each.isnan()} == undefined


@pytest.mark.parametrize("outputs", [1, 2])
def test_without_bags_all_are_nan(outputs):
    metrics = collection(outputs)
    with pytest.warns(UserWarning, match="was called before the ``update`` method"):
        computed = metrics.compute()
    assert all(value.isnan().all() for value in computed.values())
    assert all(value.numel() == outputs for value in computed.values())


def test_one_column_that_is_undefined_leaves_the_others():
    p, y = make_numbers(2)
    y[:, 1] = 3
    metric = R2(2)
    metric.update(p, y)
    assert metric.compute().isnan().tolist() == [False, True]


def test_numbers_are_kept_once():
    metrics = collection()
    for _ in range(2):
        metrics.update(preds=torch.ones(2), target=torch.ones(2))
    members = dict(metrics.items(copy_state=False))
    assert all(member.preds is members["mae"].preds for member in members.values())


@pytest.mark.parametrize(
    ("outputs", "p", "y"),
    [(1, (4, 1), (4,)), (1, (4, 1), (4, 1)), (2, (4, 2), (4,)), (2, (4,), (4,))],
)
def test_shapes_are_checked(outputs, p, y):
    """(4, 1) less (4,) would be a table of 16 differences."""
    with pytest.raises(ValueError, match=r"predictions and labels of shape \('B'"):
        MAE(outputs).update(torch.zeros(p), torch.zeros(y))


def test_outputs_are_checked():
    with pytest.raises(ValueError, match="num_outputs of at least 1, got 0"):
        Spearman(0)


def test_directions():
    up = {name for name, (metric, _) in ORACLES.items() if metric.higher_is_better}
    assert up == {"r2", "pearson", "spearman"}
