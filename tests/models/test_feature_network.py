"""What networks share that work on one vector per instance."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.testing import assert_close

import published
import reference
from milforge.data import BagBatch
from milforge.models import ACMIL, DSMIL, AdditiveABMIL, BagNetwork
from milforge.models.feature_network import entropy_penalty
from milforge.nn import FlattenEncoder, MeanPool, MultiHeadAttentionPool, StreamFusion


def entropy_by_hand(scores, ptr):
    """The mean over the columns of the negative entropy of each bag, and over the bags."""
    bags = []
    for f in reference.split(scores, ptr):
        columns = [published.softmax(column) for column in f.reshape(len(f), -1).T]
        bags.append(sum(w * w.log() for column in columns for w in column) / len(columns))
    return sum(bags) / len(bags)


@pytest.mark.parametrize("columns", [None, 3])
def test_the_entropy_of_the_attention(columns):
    scores, ptr = reference.make_bags((4, 1, 7), columns or 1)
    scores = scores if columns else scores[:, 0]
    assert_close(entropy_penalty(scores, ptr, 0.3), 0.3 * entropy_by_hand(scores, ptr))


def test_what_is_hidden_adds_no_entropy_and_no_gradient():
    scores = torch.tensor([0.0, -torch.inf, 0.0], requires_grad=True)
    penalty = entropy_penalty(scores, torch.tensor([0, 3]), 1.0)
    penalty.backward()
    assert_close(penalty, -torch.tensor(2.0).log())
    assert scores.grad.isfinite().all()
    assert entropy_penalty(torch.zeros(0), torch.tensor([0]), 1.0) == 0


@pytest.mark.parametrize("model", [AdditiveABMIL, ACMIL])
def test_it_is_added_to_the_penalty_of_a_model(model):
    plain, kept = published.build(model), published.build(model, aem=0.2)
    batch = published.batch_of()
    expected = 0.2 * entropy_by_hand(plain(batch).scores, batch.ptr)
    before, after = plain.train()(batch), kept.train()(batch)
    own = 0.0 if before.penalty is None else before.penalty
    if model is ACMIL:  # in training it hides some, so that the entropy is another
        assert after.penalty < own
    else:
        assert_close(after.penalty, expected)


def test_it_is_added_to_that_of_a_pooling_head():
    build = partial(BagNetwork, (6,), 1, encoder=FlattenEncoder)
    pool = partial(MultiHeadAttentionPool, heads=2, att_dim=3)
    batch = published.batch_of()
    torch.manual_seed(0)
    network = build(pool=pool, aem=0.2, attention_l2=0.1).double()
    output = network(batch)
    kernels = sum(p.square().sum() for p in network.pool.parameters() if p.ndim > 1)
    expected = 0.2 * entropy_by_hand(output.scores, batch.ptr) + 0.1 * kernels
    assert_close(output.penalty, expected)


def test_a_mean_and_a_small_mlp():
    torch.manual_seed(0)
    network = BagNetwork((6,), 3, encoder=FlattenEncoder, pool=MeanPool(), hidden=(5,)).double()
    batch, rows = published.batch_of(), []
    for x in published.bags_of(batch):
        hidden = published.affine(network.hidden[1], sum(x) / len(x)).clamp(min=0)
        rows.append(published.affine(network.head, hidden))
    assert_close(network(batch).logits, torch.stack(rows), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("fuse", ["instances", "bags"])
def test_a_head_of_another_width_and_several_streams(fuse):
    torch.manual_seed(0)
    pool = partial(MultiHeadAttentionPool, heads=2, att_dim=3)
    network = BagNetwork(
        {"a": (6,), "b": (6,)}, 3, encoder=FlattenEncoder, pool=pool, fusion=StreamFusion, fuse=fuse
    ).double()
    batch = published.batch_of()
    streams = {"a": batch.x, "b": batch.x.flip(0)}
    output = network(BagBatch(streams, batch.ptr, None, None, None, None, batch.bag_id))
    assert output.logits.shape == (6, 3)
    assert network.head.in_features == 12
    assert output.scores.shape == (len(batch.x), 2)


def test_streams_are_fused_and_their_weights_are_logged():
    torch.manual_seed(0)
    network = AdditiveABMIL(
        {"a": (6,), "b": (6,)}, 3, encoder=FlattenEncoder, fusion=StreamFusion
    ).double()
    batch = published.batch_of()
    streams = {"a": batch.x, "b": batch.x.flip(0)}
    output = network(BagBatch(streams, batch.ptr, None, None, None, None, batch.bag_id))
    assert network.logged == ("weight_a", "weight_b")
    assert output.details.keys() == {"weight_a", "weight_b"}
    assert output.details["weight_a"].shape == (6,)


def test_covariates_add_a_linear_term():
    """As they do beside a pooled vector before a linear head; the instances' logits see none."""
    network = published.build(DSMIL, covariates=True, num_covariates=2)
    batch, table = published.batch_of(), torch.randn(6, 2, dtype=torch.float64)
    output = network(replace(batch, covariates=table))
    without = network(replace(batch, covariates=torch.zeros_like(table)))
    added = [published.affine(network.covariate_head, row) for row in table]
    assert_close(output.logits, without.logits + torch.stack(added))
    assert torch.equal(output.auxiliary[0].logits, without.auxiliary[0].logits)


def test_covariates_that_are_not_there_are_asked_for():
    with pytest.raises(ValueError, match=r"model.covariates=true, got none: give data.covariates"):
        published.build(DSMIL, covariates=True)
