"""Losses of grades against probabilities by hand."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from milforge.functional import conditional_nll, cumulative_nll


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("grade", range(4))
def test_both_are_sums_over_questions(grade):
    logits = torch.tensor([[1.2, -0.3, -2.0]], dtype=torch.double)
    p = [sigmoid(each) for each in logits[0].tolist()]
    every = sum(-math.log(p[k] if grade > k else 1 - p[k]) for k in range(3))
    assert cumulative_nll(logits, torch.tensor([grade])).item() == pytest.approx(every)
    # the conditional one is the exact likelihood of the grade
    likelihood = math.prod(p[:grade]) * (1 - p[grade] if grade < 3 else 1)
    found = conditional_nll(logits, torch.tensor([grade])).item()
    assert found == pytest.approx(-math.log(likelihood))


def test_gradients_and_large_logits():
    logits = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    grade = torch.tensor([0, 1, 2, 3, 3, 0])
    for loss in (cumulative_nll, conditional_nll):
        assert gradcheck(lambda z, loss=loss: loss(z, grade), logits)
        assert loss(torch.tensor([[900.0]]), torch.tensor([0])).item() == 900


def test_arguments_are_checked():
    for loss in (cumulative_nll, conditional_nll):
        with pytest.raises(ValueError, match=r"of int64, got \(2, 3\) and torch.float"):
            loss(torch.zeros(2, 3), torch.zeros(2))
