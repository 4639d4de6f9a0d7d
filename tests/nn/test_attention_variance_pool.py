import torch
from torch.testing import assert_close

import reference
from milforge.nn import AttentionVariancePool


def make_pool(gated=False):
    torch.manual_seed(0)
    return AttentionVariancePool(6, 4, gated=gated).double()


def test_mean_and_variance_by_hand():
    pool = make_pool(True)
    x, ptr = reference.make_bags((4, 1, 9), 6)
    z, f = pool(x, return_att=True, ptr=ptr)
    for b, (bag, scores) in enumerate(
        zip(reference.split(x, ptr), reference.split(f, ptr), strict=True)
    ):
        weights = scores.exp() / scores.exp().sum()
        mean, variance = torch.zeros(6).double(), torch.zeros(6).double()
        for w, instance in zip(weights, bag, strict=True):
            mean += w * instance
        for w, instance in zip(weights, bag, strict=True):
            variance += w * (instance - mean) ** 2
        assert_close(z[b], torch.cat([mean, variance]))
    assert not z[1, 6:].any()


def test_padded_and_packed_bags_agree():
    pool = make_pool()
    x, ptr = reference.make_bags((4, 1, 9), 6)
    padded, mask = reference.pad(x, ptr, fill=torch.nan)
    assert_close(pool(padded, mask), pool(x, ptr=ptr))


def test_a_large_mean_costs_no_digits():
    x = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    ptr = torch.tensor([0, 1000])
    pool = AttentionVariancePool(1)
    with torch.no_grad():
        pool.attention.fc2.weight.zero_()
    found = pool(x + 1000, ptr=ptr)[0, 1]
    assert_close(found, x.var(correction=0), rtol=1e-2, atol=0)
