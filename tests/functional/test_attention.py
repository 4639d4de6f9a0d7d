import pytest
import torch
from jaxtyping import TypeCheckError
from torch.autograd import gradcheck
from torch.testing import assert_close

import reference
from milforge.functional.attention import ACTIVATIONS, attention_pool, attention_scores


def weights(width, att, gated, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(att, width), (att,), (1, att)] + [(att, width), (att,)] * gated
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def test_activations_are_those_documented():
    assert sorted(ACTIVATIONS) == ["gelu", "relu", "tanh"]


@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bags", [(4, 0, 3), (1,), (0,)])
def test_scores_agree_with_loops(act, gated, bags):
    x, _ = reference.make_bags(bags, 5)
    parts = weights(5, 6, gated)
    assert_close(
        attention_scores(x, *parts, act=act), reference.attention_scores(x, *parts, act=act)
    )


@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
@pytest.mark.parametrize("gated", [False, True])
def test_gradients_of_scores(act, gated):
    x, _ = reference.make_bags((4,), 3)
    inputs = [part.requires_grad_() for part in (x, *weights(3, 2, gated))]
    assert gradcheck(lambda *parts: attention_scores(*parts, act=act), inputs)


@pytest.mark.parametrize("bags", [(4, 0, 3), (1,), (0,), (1, 1)])
def test_pool_agrees_with_loops(bags):
    x, ptr = reference.make_bags(bags, 5)
    f = 4 * x[:, 1]
    assert_close(attention_pool(x, f, ptr), reference.attention_pool(x, f, ptr))


@pytest.mark.parametrize("bags", [(3, 0, 2), (1, 1), (0, 4)])
def test_gradients_of_pool(bags):
    x, ptr = reference.make_bags(bags, 3)
    f = x[:, 1].clone().requires_grad_()
    assert gradcheck(lambda x, f: attention_pool(x, f, ptr), (x.requires_grad_(), f))


def test_gradients_of_the_whole():
    x, ptr = reference.make_bags((3, 0, 2), 3)

    def whole(x, *parts):
        return attention_pool(x, attention_scores(x, *parts), ptr)

    assert gradcheck(whole, [part.requires_grad_() for part in (x, *weights(3, 2, True))])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_pooled_in_float32(dtype):
    x, ptr = reference.make_bags((3000, 10), 4)
    x, f = x.to(dtype), (3 * x[:, 0]).to(dtype)
    z = attention_pool(x, f, ptr)
    assert z.dtype == torch.float32
    assert_close(z.double(), reference.attention_pool(x, f, ptr), rtol=1e-4, atol=1e-6)


def test_shapes_in_signatures_are_checked_under_pytest():
    x, ptr = reference.make_bags((3,), 5)
    w1, b1, w = weights(4, 6, False)
    with pytest.raises(TypeCheckError):
        attention_scores(x, w1, b1, w)
    with pytest.raises(TypeCheckError):
        attention_pool(x, x[None], ptr)
