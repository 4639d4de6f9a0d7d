import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

import reference
from milforge.nn import MaxPool, MeanPool

POOLS = {"mean": (MeanPool, reference.segment_mean), "max": (MaxPool, reference.segment_max)}


@pytest.fixture(params=POOLS)
def pooling(request):
    pool, oracle = POOLS[request.param]
    return pool(), oracle


@pytest.mark.parametrize("bags", [(3, 0, 2), (1,), (0,), (4, 7)])
def test_packed_and_padded_agree_with_loops(pooling, bags):
    pool, oracle = pooling
    x, ptr = reference.make_bags(bags, 5)
    X, mask = reference.pad(x, ptr)
    assert_close(pool(x, ptr=ptr), oracle(x, ptr))
    assert_close(pool(X, mask), oracle(x, ptr))


def test_without_a_mask_every_row_counts(pooling):
    x, ptr = reference.make_bags((4, 4), 5)
    assert_close(pooling[0](x.reshape(2, 4, 5)), pooling[1](x, ptr))


def test_gradients(pooling):
    x, ptr = reference.make_bags((3, 0, 2), 3)
    X, mask = reference.pad(x, ptr)
    assert gradcheck(lambda X: pooling[0](X, mask), X.requires_grad_())


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    seed=st.integers(0, 2**31),
    fill=st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e30]),
)
def test_padding_does_not_leak(sizes, seed, fill):
    for pool, _ in POOLS.values():
        x, ptr = reference.make_bags(sizes, 3, seed)
        X, mask = reference.pad(x, ptr, fill, longest=max(sizes) + 1)
        for table in (x, X):
            table.requires_grad_()
        packed, padded = pool()(x, ptr=ptr), pool()(X, mask)
        assert torch.equal(packed, padded)
        packed.square().sum().backward()
        padded.square().sum().backward()
        assert torch.equal(X.grad[mask], x.grad)
        assert not X.grad[~mask].any()


def test_a_bag_of_one_is_its_instance(pooling):
    x, ptr = reference.make_bags((1, 1, 1), 4)
    assert torch.equal(pooling[0](x, ptr=ptr), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(pooling, dtype):
    x, ptr = reference.make_bags((3, 2), 4)
    z = pooling[0](x.to(dtype), ptr=ptr)
    assert z.dtype == dtype
    assert_close(z, pooling[1](x.to(dtype), ptr).to(dtype))


def test_integers_are_refused(pooling):
    with pytest.raises(ValueError, match=r"floating dtype, got torch\.int64"):
        pooling[0](torch.ones(1, 2, 3, dtype=torch.int64))
