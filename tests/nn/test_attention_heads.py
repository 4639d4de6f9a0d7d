import pytest
import torch
from torch.testing import assert_close

import published
import reference
from milforge.nn import AttentionHeads, AttentionPool, MultiHeadAttentionPool


def make_pool(gated=True):
    torch.manual_seed(0)
    return MultiHeadAttentionPool(6, heads=3, att_dim=4, gated=gated).double()


def head_of(pool, k, gated):
    """A pooling head of its own with the weights of head k."""
    single = AttentionPool(6, 4, gated=gated).double()
    rows = slice(4 * k, 4 * k + 4)
    with torch.no_grad():
        for mine, its in [
            (single.fc1, pool.attention.fc1),
            *([(single.fc_gated, pool.attention.fc_gated)] if gated else []),
        ]:
            mine.weight.copy_(its.weight[rows])
            mine.bias.copy_(its.bias[rows])
        single.fc2.weight.copy_(pool.attention.fc2.weight[k : k + 1])
    return single


@pytest.mark.parametrize("gated", [True, False])
def test_the_heads_are_so_many_single_ones(gated):
    pool = make_pool(gated)
    x, ptr = reference.make_bags((4, 0, 1, 9), 6)
    z, f = pool(x, return_att=True, ptr=ptr)
    singles = [head_of(pool, k, gated)(x, return_att=True, ptr=ptr) for k in range(3)]
    assert_close(z, torch.cat([each for each, _ in singles], dim=1))
    assert_close(f, torch.stack([each for _, each in singles], dim=1))


def test_padded_and_packed_bags_agree():
    pool = make_pool()
    x, ptr = reference.make_bags((4, 1, 9), 6)
    padded, mask = reference.pad(x, ptr, fill=torch.nan)
    z, f = pool(x, return_att=True, ptr=ptr)
    z_padded, f_padded = pool(padded, mask, return_att=True)
    assert_close(z_padded, z)
    assert_close(f_padded[mask], f)
    assert f_padded[~mask].isneginf().all()


def test_shared_projections_and_scores_of_each_head():
    torch.manual_seed(0)
    heads = AttentionHeads(6, 2, 4).double()
    x, _ = reference.make_bags((5,), 6)
    expected = [torch.stack(published.gated(heads, x, k)) for k in range(2)]
    assert_close(heads(x), torch.stack(expected, dim=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "sine"}, "act to be one of .* got 'sine'"),
        ({"heads": 0}, "expected heads of at least 1, got 0"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttentionPool(6, **options)
