"""Streams in the DataModule and the LightningModule: their weights as metrics, standardising."""

from functools import partial

import pytest
import torch
from torch import nn

from milforge.data import Bag, BagSplits, Loader, collate_bags, two_stream_digits
from milforge.graph import AdjacencyBuilder
from milforge.models import BagNetwork
from milforge.nn import (
    AttentionPool,
    ConcatStreams,
    EachStream,
    IdentityEncoder,
    Standardise,
    StreamFusion,
)
from milforge.tasks import Binary
from milforge.training import MILDataModule, MILModule
from stated import Stated, attached

SMALL = {"train": 8, "val": 4, "test": 4}
STEPS = {"train": "training_step", "val": "validation_step", "test": "test_step"}


def make_module(network, **options):
    task = Binary().from_state({"kind": "binary", "class_names": ["no", "yes"], "weights": None})
    return attached(MILModule(network, task, **options))


def digits(graph=None, batch_size=8, **options):
    return MILDataModule(
        partial(two_stream_digits, **SMALL, **options),
        graph=graph,
        loader=Loader(batch_size=batch_size),
    )


def make_bags(n=7):
    return [Bag(torch.zeros(2 + i % 2, 1), y=i % 2, bag_id=str(i)) for i in range(n)]


@pytest.mark.parametrize("stage", STEPS)
def test_weights_are_averaged_over_bags_however_they_are_batched(stage):
    weights = {"weight_uni": torch.arange(7.0), "weight_conch_v1.5": -torch.arange(7.0).square()}
    module = make_module(Stated(torch.zeros(7, 1), details=weights))
    metrics = getattr(module, f"{stage}_metrics")
    assert {f"{stage}/weight_uni", f"{stage}/weight_conch_v1.5"} < set(metrics.names)
    bags = make_bags()
    for number, part in enumerate((bags[:1], bags[1:6], bags[6:])):
        getattr(module, STEPS[stage])(collate_bags(part), number)
    values = metrics.compute()
    assert float(values[f"{stage}/weight_uni"]) == pytest.approx(3)
    assert float(values[f"{stage}/weight_conch_v1.5"]) == pytest.approx(-13)
    assert float(values[f"{stage}/loss"]) == pytest.approx(0.6931472)
    # ... and begin again
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
    seen = module.train_metrics.seen()
    assert {"loss", "weight_a", "weight_b"} < set(seen)
    assert not any(value.requires_grad for value in seen.values())


def test_a_weight_does_not_say_which_way_is_up():
    network = Stated(torch.zeros(2, 1), details={"weight_uni": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"monitor=val/weight_uni: .*monitor_mode=max"):
        make_module(network).higher_is_better("val/weight_uni")


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
    data = digits(batch_size=3)
    data.setup()
    assert data.instance_shape == {"pixels": (64,), "gradient": (128,)}
    assert (data.task.kind, data.task.class_names) == ("binary", ("no 9", "9"))
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 3
    assert {name: x.shape[1] for name, x in batch.x.items()} == {"pixels": 64, "gradient": 128}
    alone = digits(streams=["gradient"])
    assert alone.instance_shape == (128,)
    prints = [
        digits(**options).fingerprint()
        for options in ({}, {}, {"seed": 1}, {"gradient_noise": 1.0}, {"streams": ["pixels"]})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_the_data_module_standardises_each_stream_by_the_training_part():
    bags = [
        Bag({"a": torch.tensor([[1.0, 2], [3, 2]]), "b": torch.tensor([[v], [v]])}, y=int(v))
        for v in (0.0, 1.0)
    ]
    far = [Bag({"a": torch.full((1, 2), 99.0), "b": torch.full((1, 1), 99.0)}, y=1)]
    data = MILDataModule(lambda: BagSplits(bags, far, far))
    standardise = data.standardiser("auto")
    assert standardise["a"].mean.tolist() == [2, 2]
    assert standardise["b"].mean.tolist() == [0.5]
    assert standardise(bags[0].x)["a"].tolist() == [[-1, 0], [1, 0]]
    assert data.standardiser("all")["b"].mean.tolist() == pytest.approx([200 / 6])


def test_two_streams_have_graphs_that_no_features_make():
    data = digits(AdjacencyBuilder(method="chain"))
    data.setup()
    assert data.parts["train"][0].adj is not None
    knn = AdjacencyBuilder(method="feature_knn", k=2)
    with pytest.raises(ValueError, match="expected one stream of features to build a graph from"):
        digits(knn).setup()
    digits(knn, streams=["pixels"]).setup()
