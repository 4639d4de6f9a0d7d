from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch.autograd import gradcheck
from torch.testing import assert_close

import reference
from milforge.functional import (
    segment,
    segment_index,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    segment_weighted_sum,
)
from milforge.functional.attention import weighted_sums

REDUCTIONS = {
    "sum": (segment_sum, reference.segment_sum),
    "mean": (segment_mean, reference.segment_mean),
    "max": (segment_max, reference.segment_max),
}
SIZES = [(3, 0, 2), (1,), (1, 1, 1), (0, 4), (4, 0), (0,), (0, 0, 0), (40, 7)]

sizes = st.lists(st.integers(0, 6), min_size=1, max_size=6)
seeds = st.integers(0, 2**31)


@pytest.fixture(params=REDUCTIONS)
def reduction(request):
    return REDUCTIONS[request.param]


def scores_of(x):
    return 3 * x[:, 0]


@pytest.mark.parametrize("bags", SIZES)
def test_index_numbers_the_bags(bags):
    _, ptr = reference.make_bags(bags, 1)
    expected = [b for b, size in enumerate(bags) for _ in range(size)]
    assert segment_index(ptr, sum(bags)).tolist() == expected


@pytest.mark.parametrize("bags", SIZES)
@pytest.mark.parametrize("width", [1, 5])
def test_reductions_agree_with_loops(reduction, bags, width):
    x, ptr = reference.make_bags(bags, width)
    operator, oracle = reduction
    assert_close(operator(x, ptr), oracle(x, ptr))


@pytest.mark.parametrize("bags", SIZES)
def test_softmax_and_weighted_sum_agree_with_loops(bags):
    x, ptr = reference.make_bags(bags, 4)
    assert_close(segment_softmax(scores_of(x), ptr), reference.segment_softmax(scores_of(x), ptr))
    assert_close(
        segment_weighted_sum(x, scores_of(x), ptr),
        reference.segment_weighted_sum(x, scores_of(x), ptr),
    )


def test_reductions_without_bags(reduction):
    assert reduction[0](torch.zeros(0, 3), torch.tensor([0])).shape == (0, 3)
    assert segment_softmax(torch.zeros(0), torch.tensor([0])).shape == (0,)


def test_reductions_read_strided_tables(reduction):
    x, ptr = reference.make_bags((3, 0, 2), 4)
    operator, oracle = reduction
    assert_close(operator(x.t().contiguous().t(), ptr), oracle(x, ptr))
    assert_close(operator(x[:, ::2], ptr), oracle(x[:, ::2], ptr))


@pytest.mark.parametrize("bags", [(3, 0, 2, 1), (0, 4), (1,)])
def test_gradients_of_reductions(reduction, bags):
    x, ptr = reference.make_bags(bags, 3)
    assert gradcheck(lambda x: reduction[0](x, ptr), x.requires_grad_())


@pytest.mark.parametrize("bags", [(3, 0, 2, 1), (0, 4), (1,)])
@pytest.mark.parametrize("wanted", ["x", "weights", "both"])
def test_gradients_of_weighted_sum(bags, wanted):
    x, ptr = reference.make_bags(bags, 3)
    weights = scores_of(x).clone().requires_grad_(wanted != "x")
    x.requires_grad_(wanted != "weights")
    assert gradcheck(lambda x, weights: segment_weighted_sum(x, weights, ptr), (x, weights))


def test_gradients_of_weighted_sum_of_strided_tables():
    x, ptr = reference.make_bags((3, 0, 2), 8)
    weights = scores_of(x).clone().requires_grad_()
    x.requires_grad_()

    def strided(x, weights):
        return segment_weighted_sum(x[:, ::2], weights, ptr).t()

    assert gradcheck(strided, (x, weights))


@pytest.mark.parametrize("bags", [(3, 0, 2, 1), (0, 4), (1,)])
def test_gradients_of_softmax(bags):
    x, ptr = reference.make_bags(bags, 1)
    assert gradcheck(lambda f: segment_softmax(f, ptr), scores_of(x).requires_grad_())


def test_gradients_where_there_is_no_instance(reduction):
    x = torch.zeros(0, 3, requires_grad=True)
    out = reduction[0](x, torch.tensor([0, 0, 0]))
    out.sum().backward()
    assert out.tolist() == [[0.0] * 3] * 2
    assert x.grad.shape == (0, 3)


def max_gradients(x, ptr, grad):
    """Each gradient goes in equal parts to the instances that are the largest of their bag."""
    out = torch.zeros_like(x)
    for b, (start, stop) in enumerate(pairwise(ptr.tolist())):
        for d in range(x.shape[1]):
            values = x[start:stop, d].tolist()
            best = [start + i for i, value in enumerate(values) if value == max(values)]
            for n in best:
                out[n, d] = grad[b, d] / len(best)
    return out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@given(sizes=sizes, seed=seeds)
def test_gradient_of_max_is_shared_by_ties(dtype, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 2, (sum(sizes), 3), generator=generator).to(dtype).requires_grad_()
    grad = torch.randn(len(sizes), 3, generator=generator).to(dtype)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    segment_max(x, ptr).backward(grad)
    assert_close(x.grad, max_gradients(x.detach(), ptr, grad))


def test_mean_and_max_of_negative_instances_beside_an_empty_bag():
    x, ptr = -torch.ones(2, 1), torch.tensor([0, 0, 2])
    assert segment_max(x, ptr).tolist() == [[0.0], [-1.0]]
    assert segment_mean(x, ptr).tolist() == [[0.0], [-1.0]]


@given(sizes=sizes, seed=seeds)
def test_a_bag_does_not_feel_the_others(sizes, seed):
    x, ptr = reference.make_bags(sizes, 3, seed)
    weights = segment_softmax(scores_of(x), ptr)
    for operator, _ in REDUCTIONS.values():
        alone = [operator(bag, torch.tensor([0, len(bag)])) for bag in reference.split(x, ptr)]
        assert_close(operator(x, ptr), torch.cat(alone))
    alone = [
        segment_softmax(scores_of(b), torch.tensor([0, len(b)])) for b in reference.split(x, ptr)
    ]
    assert_close(weights, torch.cat(alone))


@given(sizes=sizes, seed=seeds, data=st.data())
def test_the_order_of_instances_is_of_no_account(sizes, seed, data):
    x, ptr = reference.make_bags(sizes, 3, seed)
    order = torch.tensor(
        [
            n
            for start, size in zip(ptr.tolist(), sizes, strict=False)
            for n in data.draw(st.permutations(range(start, start + size)))
        ],
        dtype=torch.int64,
    )
    for operator, _ in REDUCTIONS.values():
        assert_close(operator(x[order], ptr), operator(x, ptr))
    assert_close(
        segment_softmax(scores_of(x)[order], ptr), segment_softmax(scores_of(x), ptr)[order]
    )


@given(sizes=sizes, seed=seeds, shift=st.floats(-1e4, 1e4))
def test_softmax_is_a_distribution_with_anything_added_to_a_bag(sizes, seed, shift):
    x, ptr = reference.make_bags(sizes, 1, seed)
    shifts = shift * torch.arange(len(sizes))[segment_index(ptr, len(x))]
    weights = segment_softmax(scores_of(x), ptr)
    assert (weights >= 0).all()
    assert [float(bag.sum()) for bag in reference.split(weights, ptr)] == pytest.approx(
        [float(size > 0) for size in sizes]
    )
    assert_close(segment_softmax(scores_of(x) + shifts, ptr), weights, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [1e4, 1e30, 3e38])
def test_softmax_of_extreme_scores(scale):
    scores = torch.tensor([0.0, scale, -scale, -scale, -scale, scale / 2], requires_grad=True)
    weights = segment_softmax(scores, torch.tensor([0, 3, 5, 6]))
    assert weights.tolist() == [0.0, 1.0, 0.0, 0.5, 0.5, 1.0]
    weights.square().sum().backward()
    assert scores.grad.isfinite().all()


def test_softmax_of_masked_scores():
    scores = torch.tensor([-torch.inf, 1.0, 1.0, -torch.inf, -torch.inf], requires_grad=True)
    weights = segment_softmax(scores, torch.tensor([0, 3, 5]))
    assert weights.tolist() == [0.0, 0.5, 0.5, 0.0, 0.0]
    # A large incoming gradient: the divisor of the weights must not overflow it.
    weights.backward(torch.tensor([1e6, 1e6, -1e6, 1e6, -1e6]))
    assert scores.grad.tolist() == [0.0, 5e5, -5e5, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_of_a_large_bag_sum_to_one(dtype):
    generator = torch.Generator().manual_seed(0)
    scores = (3 * torch.randn(100_000, generator=generator)).to(dtype)
    ptr = torch.tensor([0, 100_000])
    weights = segment_softmax(scores, ptr)
    assert weights.dtype == torch.float32
    assert float(weights.double().sum()) == pytest.approx(1, abs=1e-6)
    assert_close(weights.double(), torch.softmax(scores.double(), 0), rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    x = torch.full((5000, 1), 1.0, dtype=dtype)
    ptr = torch.tensor([0, 5000])
    for operator, expected in ((segment_sum, 5000.0), (segment_mean, 1.0)):
        out = operator(x, ptr)
        assert out.dtype == torch.float32
        assert out.item() == expected
    assert segment_max(x, ptr).dtype == dtype


def test_autocast_does_not_lower_the_precision():
    x, ptr = reference.make_bags((2000, 3000), 4)
    weights = segment_softmax(scores_of(x), ptr)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = segment_weighted_sum(x.float(), segment_softmax(scores_of(x).float(), ptr), ptr)
    assert z.dtype == torch.float32
    assert_close(z.double(), segment_weighted_sum(x, weights, ptr), rtol=1e-4, atol=1e-6)


def test_mixed_precision_is_promoted():
    x, ptr = reference.make_bags((2, 1), 2)
    weights = torch.tensor([0.5, 0.25, 2.0])
    expected = reference.segment_weighted_sum(x, weights, ptr)
    assert_close(segment_weighted_sum(x, weights, ptr), expected)
    half = x.bfloat16().requires_grad_()
    segment_weighted_sum(half, weights, ptr).sum().backward()
    assert half.grad.dtype == torch.bfloat16
    assert half.grad.tolist() == [[0.5] * 2, [0.25] * 2, [2.0] * 2]


def test_shapes_in_signatures_are_checked_under_pytest():
    with pytest.raises(TypeCheckError):
        segment_weighted_sum(torch.zeros(3, 2), torch.zeros(4), torch.tensor([0, 3]))
    with pytest.raises(TypeCheckError):
        segment_sum(torch.zeros(3, 2), torch.tensor([0.0, 3.0]))


def test_a_single_bag_is_summed_by_dense_products_alone(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(50, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def summed(*bounds):
        """The sums by one head and by three, and their gradients."""
        ptr = torch.tensor(bounds)
        parts = segment_weighted_sum(x, weights[:, 0], ptr), weighted_sums(x, weights, ptr)
        total = sum(part.sin().sum() for part in parts)
        return [part[0] for part in parts], torch.autograd.grad(total, (x, weights))

    beside_an_empty_one = summed(0, 50, 50)
    monkeypatch.setattr(segment, "_csr", None)
    assert_close(summed(0, 50), beside_an_empty_one)
