import math

import pytest
import torch

from milforge.sampling import MultinomialEntropy


def test_the_formula():
    maps = torch.rand(3, 4, 5, dtype=torch.float64)
    maps[0, 0, 0] = 0
    expected = 0.0
    for a in maps.flatten().tolist():
        expected += 0.3 * a * math.log(a + 1e-3) / 3
    found = MultinomialEntropy(strength=0.3, eps=1e-3)(maps)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_even_attention_has_the_smallest_term_and_saturation_a_finite_gradient():
    term = MultinomialEntropy()
    even = torch.full((1, 2, 2), 0.25)
    peaked = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], requires_grad=True)
    assert term(even) < term(peaked)
    term(peaked).backward()
    assert peaked.grad.isfinite().all()


def test_half_precision_is_summed_in_float32():
    maps = torch.full((2, 180, 180), 1 / 180**2, dtype=torch.bfloat16)
    found = MultinomialEntropy()(maps)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, MultinomialEntropy()(maps.float()))


def test_errors():
    with pytest.raises(ValueError, match="eps above 0, got 0"):
        MultinomialEntropy(eps=0)
