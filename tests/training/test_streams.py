"""Streams in the DataModules and the LightningModule: their weights as metrics, standardising."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from milforge.data import Bag, collate_bags
from milforge.graph import AdjacencyBuilder
from milforge.models import BagNetwork, BagOutput
from milforge.nn import (
    AttentionPool,
    ConcatStreams,
    EachStream,
    IdentityEncoder,
    Standardise,
    StreamFusion,
)
from milforge.training import BagClassification, TwoStreamDigitsDataModule

SMALL = {"train": 8, "val": 4, "test": 4}
STEPS = {"train": "training_step", "val": "validation_step", "test": "test_step"}


class Told(nn.Module):
    """Weights that are told; the bag id is the number of the row."""

    weighed_streams = ("conch_v1.5", "uni")

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, batch):
        rows = torch.tensor([int(name) for name in batch.bag_id])
        weights = {name: self.weights[name][rows] for name in self.weighed_streams}
        return BagOutput(torch.zeros(len(rows)), None, None, weights)


def make_module(network, **options):
    module = BagClassification(network, "binary", ("no", "yes"), **options)
    module._trainer = SimpleNamespace(world_size=1, sanity_checking=False)
    return module


def make_bags(n=7):
    return [Bag(torch.zeros(2 + i % 2, 1), y=i % 2, bag_id=str(i)) for i in range(n)]


@pytest.mark.parametrize("stage", STEPS)
def test_weights_are_averaged_over_bags_however_they_are_batched(stage):
    weights = {"uni": torch.arange(7.0), "conch_v1.5": -torch.arange(7.0).square()}
    module = make_module(Told(weights))
    metrics = getattr(module, f"{stage}_metrics")
    assert {f"{stage}/weight_uni", f"{stage}/weight_conch_v1.5"} < set(metrics.names)
    bags = make_bags()
    for number, part in enumerate((bags[:1], bags[1:6], bags[6:])):
        getattr(module, STEPS[stage])(collate_bags(part), number)
    values = metrics.compute()
    assert float(values[f"{stage}/weight_uni"]) == pytest.approx(3)
    assert float(values[f"{stage}/weight_conch_v1.5"]) == pytest.approx(-13)
    assert float(values[f"{stage}/loss"]) == pytest.approx(0.6931472)
    # ... and begin anew
    getattr(module, STEPS[stage])(collate_bags(bags[2:3]), 0)
    assert float(metrics.compute()[f"{stage}/weight_uni"]) == 2


def test_a_concatenation_and_a_single_stream_have_no_such_metrics():
    options = {"encoder": IdentityEncoder, "pool": partial(AttentionPool, att_dim=2)}
    concat = BagNetwork({"a": (2,), "b": (3,)}, 1, fusion=ConcatStreams, **options)
    single = BagNetwork((2,), 1, fusion=StreamFusion, **options)
    for network in (concat, single, nn.Identity()):
        module = make_module(network)
        assert not any("weight" in name for name in module.val_metrics.names)
    x = {"a": torch.zeros(2, 2), "b": torch.zeros(2, 3)}
    module = make_module(concat)
    module.validation_step(collate_bags([Bag(x, y=1), Bag(x, y=0)]), 0)
    assert "val/loss" in module.val_metrics.compute()


def test_weights_keep_no_graph_of_a_step():
    options = {"encoder": IdentityEncoder, "pool": partial(AttentionPool, att_dim=2)}
    fusion = partial(StreamFusion, dim=2)
    module = make_module(BagNetwork({"a": (2,), "b": (3,)}, 1, fusion=fusion, **options))
    x = {"a": torch.randn(2, 2), "b": torch.randn(2, 3)}
    module.training_step(collate_bags([Bag(x, y=1)]), 0)
    (waiting,) = module.train_metrics._waiting
    assert set(waiting.means) == {"loss", "weight_a", "weight_b"}
    assert not any(value.requires_grad for value in waiting.means.values())


def test_every_stream_is_standardised_by_its_own_statistics():
    standardise = EachStream(
        {
            "uni": Standardise(torch.tensor([1.0]), torch.tensor([2.0])),
            "conch_v1.5": Standardise(torch.tensor([0.0, 4.0]), torch.tensor([1.0, 0.5])),
        }
    )
    module = make_module(nn.Identity(), standardise=standardise)
    x = {"conch_v1.5": torch.tensor([[3.0, 5.0]]).half(), "uni": torch.tensor([[5.0]])}
    prepared = module.prepared(collate_bags([Bag(x)])).x
    assert {name: each.tolist() for name, each in prepared.items()} == {
        "uni": [[2.0]],
        "conch_v1.5": [[3.0, 2.0]],
    }
    assert all(each.dtype == torch.float32 for each in prepared.values())
    with pytest.raises(ValueError, match=r"expected the streams .* got \['uni'\]"):
        module.prepared(collate_bags([Bag({"uni": torch.zeros(1, 1)})]))


def test_half_and_double_precision_become_single_in_every_stream():
    x = {"a": torch.ones(1, 2).half(), "b": torch.ones(1, 3).bfloat16(), "c": torch.ones(1, 1)}
    x["d"] = torch.ones(1, 2).double()
    prepared = make_module(nn.Identity()).prepared(collate_bags([Bag(x)])).x
    assert {name: each.dtype for name, each in prepared.items()} == dict.fromkeys(x, torch.float32)


def test_the_digits_in_two_streams():
    data = TwoStreamDigitsDataModule(**SMALL, batch_size=3)
    data.setup()
    assert data.instance_shape == {"pixels": (64,), "gradient": (128,)}
    assert (data.task, data.class_names) == ("binary", ("no 9", "9"))
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 3
    assert {name: x.shape[1] for name, x in batch.x.items()} == {"pixels": 64, "gradient": 128}
    alone = TwoStreamDigitsDataModule(**SMALL, streams=["gradient"])
    assert alone.instance_shape == (128,)
    prints = [
        TwoStreamDigitsDataModule(**SMALL, **options).fingerprint()
        for options in ({}, {}, {"seed": 1}, {"gradient_noise": 1.0}, {"streams": ["pixels"]})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_two_streams_have_graphs_that_no_features_make():
    chain = AdjacencyBuilder(method="chain")
    data = TwoStreamDigitsDataModule(**SMALL, adjacency=chain)
    data.setup()
    assert data.splits.train[0].adj is not None
    knn = AdjacencyBuilder(method="feature_knn", k=2)
    with pytest.raises(ValueError, match="expected one stream of features to build a graph from"):
        TwoStreamDigitsDataModule(**SMALL, adjacency=knn).setup()
    TwoStreamDigitsDataModule(**SMALL, adjacency=knn, streams=["pixels"]).setup()
