"""Losses of censored times against sums over pairs, and at the ends of what floats hold."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import weibull_min
from torch.autograd import gradcheck

from milforge.functional import cox_nll, discrete_survival_nll, weibull_nll


def make_data(n=30, seed=0, times=8):
    """Few different times, so that events tie with events and with censoring."""
    rng = np.random.default_rng(seed)
    time = torch.tensor(rng.integers(1, times + 1, n) / 2)
    event = torch.tensor(rng.integers(2, size=n)).double()
    return torch.tensor(rng.normal(size=n)), time, event


def brute_cox(risk, time, event, ties):
    """Log partial likelihood as the papers have it, time by time."""
    risk, time, event = (each.tolist() for each in (risk, time, event))
    total = 0.0
    for t in sorted({t for t, e in zip(time, event, strict=True) if e}):
        dead = [r for r, s, e in zip(risk, time, event, strict=True) if s == t and e]
        at_risk = sum(math.exp(r) for r, s in zip(risk, time, strict=True) if s >= t)
        total += sum(dead)
        for number in range(len(dead)):
            less = number / len(dead) * sum(map(math.exp, dead)) if ties == "efron" else 0.0
            total -= math.log(at_risk - less)
    return -total


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("times", [1, 8, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_cox_is_the_sum_over_risk_sets(seed, times, ties):
    risk, time, event = make_data(seed=seed, times=times)
    terms = cox_nll(risk, time, event, ties)
    assert terms.shape == risk.shape
    assert (terms[event == 0] == 0).all()
    assert terms.sum().item() == pytest.approx(brute_cox(risk, time, event, ties), rel=1e-12)


def test_efron_and_breslow_differ_in_ties_alone():
    risk, time, event = make_data()
    untied = torch.arange(len(time)).double()
    torch.testing.assert_close(
        cox_nll(risk, untied, event), cox_nll(risk, untied, event, "breslow"), rtol=0, atol=0
    )
    assert cox_nll(risk, time, event).sum() < cox_nll(risk, time, event, "breslow").sum() - 0.1
    torch.testing.assert_close(cox_nll(risk, time, event > 0), cox_nll(risk, time, event))


@given(st.integers(0, 1000), st.floats(-300, 300))
def test_cox_knows_no_offset_order_or_unit(seed, offset):
    risk, time, event = make_data(12, seed)
    terms = cox_nll(risk, time, event)
    torch.testing.assert_close(cox_nll(risk + offset, time, event), terms, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cox_nll(risk, time**3, event), terms)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(cox_nll(risk[order], time[order], event[order]), terms[order])


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_gradients(ties):
    risk, time, event = make_data(12)
    assert gradcheck(lambda r: cox_nll(r, time, event, ties), risk.requires_grad_())
    logits = torch.randn(12, 4, dtype=torch.double, requires_grad=True)
    bins = torch.arange(12) % 4
    assert gradcheck(lambda x: discrete_survival_nll(x, bins, event, 0.3), logits)
    shape = torch.tensor(0.3, dtype=torch.double, requires_grad=True)
    assert gradcheck(lambda r, k: weibull_nll(r, k, time, event), (risk, shape))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_cox_of_extreme_risks_is_finite_and_pulls(ties):
    risk = torch.tensor([-1e4, 1e4, -1e4, 3.0], requires_grad=True)
    time, event = torch.tensor([1.0, 2.0, 1.0, 3.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    loss = cox_nll(risk, time, event, ties).sum()
    loss.backward()
    assert loss.item() == pytest.approx(4e4, rel=1e-3)
    assert risk.grad.isfinite().all()
    assert risk.grad[0] < -0.9
    assert risk.grad[1] > 0.9


def test_a_batch_without_an_event_or_label_gives_zeros_that_have_a_gradient():
    risk = torch.randn(3, requires_grad=True)
    for time, event in (
        (torch.ones(3), torch.zeros(3)),
        (torch.full((3,), torch.nan), torch.full((3,), torch.nan)),
    ):
        loss = cox_nll(risk, time, event).sum()
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, risk)
        assert (gradient == 0).all()
    assert cox_nll(risk[:0], torch.ones(0), torch.ones(0)).shape == (0,)


def test_one_bag_has_no_risk_set_to_be_compared_with():
    """Why a batch of one bag teaches Cox nothing."""
    risk = torch.randn(1, requires_grad=True)
    loss = cox_nll(risk, torch.ones(1), torch.ones(1)).sum()
    (gradient,) = torch.autograd.grad(loss, risk)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient.item() == pytest.approx(0, abs=1e-6)


def test_bags_without_a_label_count_for_nothing():
    risk, time, event = make_data()
    logits = torch.randn(30, 3, dtype=torch.double)
    bins, shape = torch.arange(30) % 3, torch.tensor(0.2, dtype=torch.double)
    known = torch.arange(30) % 3 > 0
    gaps = time.where(known, torch.nan), event.where(known, torch.nan)
    for losses, expected in (
        (cox_nll(risk, *gaps), cox_nll(risk[known], time[known], event[known])),
        (
            discrete_survival_nll(logits, bins, gaps[1]),
            discrete_survival_nll(logits[known], bins[known], event[known]),
        ),
        (
            weibull_nll(risk, shape, *gaps),
            weibull_nll(risk[known], shape, time[known], event[known]),
        ),
    ):
        assert (losses[~known] == 0).all()
        torch.testing.assert_close(losses[known], expected)
    risk.requires_grad_()
    losses = weibull_nll(risk, shape, *gaps).sum() + cox_nll(risk, *gaps).sum()
    (gradient,) = torch.autograd.grad(losses, risk)
    assert (gradient[~known] == 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_discrete_is_the_likelihood_of_the_bin(alpha):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 5, dtype=torch.double, generator=generator)
    bins, event = torch.arange(20) % 5, (torch.arange(20) // 5 % 2).double()
    losses = discrete_survival_nll(logits, bins, event, alpha)
    for row, hazard in enumerate(logits.sigmoid().tolist()):
        k = int(bins[row])
        lived = math.prod(1 - h for h in hazard[:k])
        if event[row]:
            expected = -math.log(lived * hazard[k])
        else:
            expected = -(1 - alpha) * math.log(lived * (1 - hazard[k]))
        assert losses[row].item() == pytest.approx(expected, rel=1e-12)


def test_discrete_of_saturated_logits_is_right_and_pulls():
    """Published code clamps at 1e-7: 16.1 and no gradient, where the loss is 120."""
    logits = torch.tensor([[-120.0, 0.0], [120.0, 0.0], [120.0, 0.0]], requires_grad=True)
    losses = discrete_survival_nll(logits, torch.tensor([0, 1, 0]), torch.tensor([1.0, 1.0, 0.0]))
    expected = [120, 120 + math.log(2), 120]
    assert losses.tolist() == pytest.approx(expected, rel=1e-6)
    losses.sum().backward()
    assert logits.grad[:, 0].tolist() == pytest.approx([-1, 1, 1])


def test_weibull_is_scipys():
    log_scale, time, event = make_data()
    k = 1.7
    losses = weibull_nll(log_scale, torch.tensor(math.log(k)), time, event)
    law = weibull_min(k, scale=log_scale.exp().numpy())
    expected = np.where(event == 1, -law.logpdf(time.numpy()), -law.logsf(time.numpy()))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="efron or breslow, got 'exact'"):
        cox_nll(torch.zeros(2), torch.ones(2), torch.ones(2), "exact")
    with pytest.raises(ValueError, match=r"of shape \(B,\), got \(2, 1\)"):
        cox_nll(torch.zeros(2, 1), torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"of shape \(B,\), got \(2, 1\)"):
        weibull_nll(torch.zeros(2, 1), torch.zeros(()), torch.ones(2), torch.ones(2))
    logits, event = torch.zeros(2, 3), torch.ones(2)
    with pytest.raises(ValueError, match="bins from 0 to 2, got 0 to 3"):
        discrete_survival_nll(logits, torch.tensor([0, 3]), event)
    with pytest.raises(ValueError, match="bins of int64, got"):
        discrete_survival_nll(logits, torch.zeros(2), event)
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(3,\) and \(2,\)"):
        discrete_survival_nll(logits, torch.tensor([0, 1, 2]), event)
    with pytest.raises(ValueError, match="alpha from 0 to 1, got 2"):
        discrete_survival_nll(logits, torch.tensor([0, 1]), event, 2)
