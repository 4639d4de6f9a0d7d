"""Contributions of instances to the logits of their bag, of networks that pool."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from milforge.data import Bag, collate_bags
from milforge.functional import segment_sum
from milforge.graph import build_adjacency
from milforge.models import BagNetwork
from milforge.nn import (
    AttentionPool,
    AttentionVariancePool,
    MaxPool,
    MeanPool,
    MLPEncoder,
    MultiHeadAttentionPool,
    SmAttentionPool,
    StreamFusion,
)

POOLS = {
    "mean": MeanPool(),
    "plain": partial(AttentionPool, att_dim=4),
    "gated": partial(AttentionPool, att_dim=4, gated=True),
    "heads": partial(MultiHeadAttentionPool, heads=3, att_dim=4),
    "early": partial(SmAttentionPool, att_dim=4, sm_where="early"),
    "late": partial(SmAttentionPool, att_dim=4, sm_where="late"),
    "unsmoothed": partial(SmAttentionPool, att_dim=4, sm_where="none"),
}


def network_of(pool, shape=(3,), num_outputs=2, **options):
    torch.manual_seed(0)
    encoder = partial(MLPEncoder, hidden=(5,))
    return BagNetwork(shape, num_outputs, encoder=encoder, pool=pool, **options).double().eval()


def batch_with_graph():
    bags = []
    for size in (7, 1, 4):
        x = torch.randn(size, 3, dtype=torch.float64)
        coords = torch.arange(size)[:, None] * torch.tensor([[1.0, 0.0]])
        adj = build_adjacency(coords, method="radius", radius=1.5).to_dense().double()
        bags.append(Bag(x, 1, adj.to_sparse_csr(), coords))
    return collate_bags(bags)


@pytest.mark.parametrize("pool", list(POOLS))
def test_each_is_its_weight_times_what_the_head_says_of_it(pool):
    """And they sum to the logits; the weights are those of the attention that is returned."""
    network, batch = network_of(POOLS[pool], dropout=0.5), batch_with_graph()
    each = network.contributions(batch)
    assert each.shape == (12, 2)
    logits = network(batch).logits
    found = segment_sum(each, batch.ptr) + network.offset
    assert_close(found, logits, rtol=1e-12, atol=1e-12)
    if pool == "early":  # the weights are not those of the attention
        return
    scores = network(batch).scores
    for b, (i, j) in enumerate(pairwise(batch.ptr.tolist())):
        x = network.encoder(batch.x[i:j])
        weights = x.new_full((j - i, 1), 1 / (j - i))
        if scores is not None:
            weights = scores[i:j].reshape(j - i, -1).softmax(0)
        for n in range(j - i):
            vector = torch.cat([weight * x[n] for weight in weights[n]])
            assert_close(each[i + n], network.head.weight @ vector, msg=f"{b} {n}")


def test_there_are_none_where_none_are_exact():
    batch = batch_with_graph()
    attention = partial(AttentionPool, att_dim=4)
    assert network_of(MaxPool()).contributions(batch) is None
    assert network_of(partial(AttentionVariancePool, att_dim=4)).contributions(batch) is None
    assert network_of(attention, hidden=[4]).contributions(batch) is None
    known = replace(batch, covariates=torch.ones(3, 2, dtype=torch.float64))
    network = network_of(attention, covariates=True, num_covariates=2)
    assert network.contributions(known) is None


@pytest.mark.parametrize("fuse", ["instances", "bags"])
def test_streams_have_them_where_instances_are_fused(fuse):
    shapes = {"a": (3,), "b": (2,)}
    fusion = partial(StreamFusion, dim=4)
    pool = partial(AttentionPool, att_dim=4)
    network = network_of(pool, shapes, 1, fusion=fusion, fuse=fuse)
    streams = {name: torch.randn(6, *shape, dtype=torch.float64) for name, shape in shapes.items()}
    batch = collate_bags(
        [Bag({name: x[i:j] for name, x in streams.items()}) for i, j in ((0, 2), (2, 6))]
    )
    each = network.contributions(batch)
    if fuse == "bags":
        assert each is None
    else:
        found = segment_sum(each, batch.ptr) + network.offset
        assert_close(found, network(batch).logits, rtol=1e-12, atol=1e-12)


def test_contributions_need_the_adjacency_too():
    network = network_of(POOLS["early"])
    with pytest.raises(ValueError, match="expected bags with an adjacency for SmAttentionPool"):
        network.contributions(replace(batch_with_graph(), adj=None))
