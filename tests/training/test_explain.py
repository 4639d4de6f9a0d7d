"""What instances say, of one module and of several, against bags of one instance."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from milforge.data import Bag, collate_bags
from milforge.data.labels import Labels
from milforge.graph import build_adjacency
from milforge.models import BagNetwork
from milforge.nn import (
    AttentionPool,
    IdentityEncoder,
    MaxPool,
    MeanPool,
    SmAttentionPool,
    Standardise,
)
from milforge.tasks import Cox
from milforge.training import Ensemble, MILModule
from milforge.training import explain as explaining
from stated import OUTPUTS, make_labels, make_task

ATTENTION = partial(AttentionPool, att_dim=4)


def make_module(kind="multiclass", seed=0, pool=ATTENTION, **options):
    torch.manual_seed(seed)
    network = BagNetwork((3,), OUTPUTS[kind], encoder=IdentityEncoder, pool=pool, **options)
    task = make_task(kind, make_labels(kind, 23))
    return MILModule(network, task, standardise=Standardise(torch.randn(3), torch.ones(3))).eval()


def make_batch(size=6, bag_id="a"):
    torch.manual_seed(5)
    coords = torch.arange(size)[:, None] * torch.tensor([[1.0, 0.0]])
    adj = build_adjacency(coords, method="radius", radius=1.5)
    return collate_bags([Bag(torch.randn(size, 3), 1, adj, coords, bag_id=bag_id)])


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
@torch.no_grad()
def test_they_sum_to_the_logits_of_the_module(kind, monkeypatch):
    monkeypatch.setattr(explaining, "MOST_AT_ONCE", 4)
    module, batch = make_module(kind), make_batch()
    said = module.explained(batch)
    logits = module.predict_step(batch, 0)["columns"]["logits"][0].double()
    assert_close(said.logits, logits)
    assert_close(said.contributions.sum(0) + said.offset, logits, rtol=1e-5, atol=1e-6)
    if kind == "regression":
        assert said.probability is None
        return
    for n in range(6):
        alone = collate_bags([Bag(batch.x[n : n + 1], bag_id="a")])
        expected = module.predict_step(alone, 0)["columns"]["probability"][0]
        assert_close(said.probability[n], expected.float())


@torch.no_grad()
def test_several_are_averaged_by_their_logits():
    members = [make_module(seed=seed) for seed in range(3)]
    batch = make_batch()
    each = [member.explained(batch) for member in members]
    said = Ensemble(members).eval().explained(batch)
    assert_close(said.logits, torch.stack([one.logits for one in each]).mean(0))
    assert_close(said.contributions.sum(0) + said.offset, said.logits, rtol=1e-5, atol=1e-6)
    assert_close(said.probability, torch.stack([one.probability for one in each]).mean(0))


@torch.no_grad()
def test_a_bag_is_explained_by_those_that_predict_it():
    members = [make_module(seed=seed) for seed in range(3)]
    batch = make_batch()
    said = Ensemble(members, {"a": (2,)}).eval().explained(batch)
    assert_close(said.contributions, members[2].explained(batch).contributions)


@torch.no_grad()
def test_members_of_other_scales_have_no_mean_logit():
    members = [make_module("regression", seed=seed) for seed in range(2)]
    assert Ensemble(members).eval().explained(make_batch()).contributions is None


@torch.no_grad()
def test_log_risks_have_a_mean_that_is_their_prediction():
    task, members = Cox(), []
    columns = {"months": np.arange(1, 9).astype(str), "dead": np.array(list("11111011"))}
    task.fit(torch.as_tensor(task.encode(Labels(columns))))
    for seed in range(2):
        torch.manual_seed(seed)
        network = BagNetwork((3,), 1, encoder=IdentityEncoder, pool=ATTENTION)
        members.append(MILModule(network, task).eval())
    said = Ensemble(members).eval().explained(make_batch())
    expected = torch.stack([each.explained(make_batch()).logits for each in members]).mean(0)
    assert_close(said.contributions.sum(0) + said.offset, expected, rtol=1e-5, atol=1e-6)
    assert said.probability is None


@torch.no_grad()
def test_what_there_is_not_is_none():
    said = make_module(pool=MaxPool()).explained(make_batch())
    assert said.contributions is None
    assert said.offset is None
    assert said.probability is not None
    both = Ensemble([make_module(), make_module(pool=MaxPool())]).eval()
    assert both.explained(make_batch()).contributions is None
    smooth = make_module(pool=partial(SmAttentionPool, att_dim=4))
    said = smooth.explained(make_batch())
    assert said.contributions is not None
    assert said.probability is None  # a tile alone has no neighbours to be smoothed with


def explained_by(module, batch, **options):
    with torch.inference_mode(False), torch.no_grad():
        return module.explained(batch, **options)


def test_the_gradient_times_the_input_of_a_linear_model_is_its_contribution():
    module = make_module(pool=MeanPool())
    said = explained_by(module, make_batch(), gradient=True)
    assert_close(said.gradient, said.contributions, rtol=1e-5, atol=1e-6)
    assert explained_by(module, make_batch()).gradient is None


def test_occlusion_is_what_the_logit_loses_without_a_block():
    module, batch = make_module(), make_batch()
    blocks = torch.tensor([0, 0, 1, 1, 1, 2])
    said = explained_by(module, batch, blocks=blocks)
    for number in range(3):
        left = blocks != number
        without = collate_bags([Bag(batch.x[left], bag_id="a")])
        lost = said.logits - explained_by(module, without).logits
        for n in (~left).nonzero()[:, 0].tolist():
            assert_close(said.occlusion[n], lost, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="occlusion needs at least two tiles"):
        explained_by(module, batch, blocks=torch.zeros(6, dtype=torch.int64))


def test_parts_of_a_bag_with_a_graph_keep_the_edges_among_them(monkeypatch):
    monkeypatch.setattr("milforge.training.sub_bags.MOST_AT_ONCE", 5)
    module, batch = make_module(pool=partial(SmAttentionPool, att_dim=4)), make_batch()
    parts = [torch.tensor([0, 1, 2, 5]), torch.tensor([3, 4]), torch.arange(6)]
    found = module.logits_of_parts(batch, parts)
    for part, logits in zip(parts, found, strict=True):
        adj = batch.adj.to_dense()[part][:, part].to_sparse_csr()
        alone = collate_bags([Bag(batch.x[part], None, adj, batch.coords[part], bag_id="a")])
        with torch.no_grad():
            assert_close(module(module.prepared(alone)).logits[0].double(), logits)


def test_what_each_of_several_says_is_kept():
    members = [make_module(seed=seed) for seed in range(2)]
    batch, blocks = make_batch(), torch.arange(6)
    said = explained_by(Ensemble(members).eval(), batch, gradient=True, blocks=blocks)
    for one, own in zip(members, said.members, strict=True):
        alone = explained_by(one, batch, gradient=True, blocks=blocks)
        assert_close(own.contributions, alone.contributions)
        assert_close(own.weights, alone.weights)
    for name in ("gradient", "occlusion", "weights"):
        each = [getattr(own, name) for own in said.members]
        assert_close(getattr(said, name), torch.stack(each).mean(0))
    assert explained_by(members[0], batch).members == ()
