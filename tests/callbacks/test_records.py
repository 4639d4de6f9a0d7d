"""Records of bags, from batches and from several processes."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from milforge.callbacks import RecordCollector
from milforge.callbacks.records import stacked
from milforge.data import Bag, Canvas, LargeImage, collate_bags, collate_images


class Kept(RecordCollector):
    """Keeps what it is handed over."""

    def __init__(self, images=0):
        super().__init__()
        self.images = images
        self.finished = []

    def keep_images(self, module, record):
        return int(record.bag_id) < self.images

    def finish(self, trainer, module, records, stage):
        self.finished.append((stage, records))


def make_bags(n, shape=(2,), labelled=True):
    bags = []
    for i in range(n):
        size = i % 3 + 1
        bags.append(
            Bag(
                torch.full((size, *shape), float(i)),
                y=i % 2 if labelled else None,
                y_inst=torch.arange(size) % 2 if labelled else None,
                coords=torch.full((size, 2), i),
                bag_id=str(i),
            )
        )
    return bags


def outputs_of(batch, attention=True):
    """As the module returns them."""
    p = torch.tensor([int(name) / 100 for name in batch.bag_id])
    outputs = {
        "columns": {"probability": torch.stack([1 - p, p], 1), "prediction": p},
        "sizes": batch.ptr.diff(),
    }
    if attention:
        outputs["scores"] = torch.arange(float(batch.num_instances))
        outputs["weights"] = torch.ones(batch.num_instances)
    for name in ("y_inst", "coords"):
        if getattr(batch, name) is not None:
            outputs[name] = getattr(batch, name)
    return outputs


def run(collector, batches, stage="test", rank=0, world_size=1, data=None, **options):
    trainer = SimpleNamespace(world_size=world_size, is_global_zero=rank == 0, datamodule=data)
    for i, batch in enumerate(batches):
        hook = getattr(collector, f"on_{stage}_batch_end")
        hook(trainer, None, outputs_of(batch, **options), batch, i)
    getattr(collector, f"on_{stage}_epoch_end")(trainer, None)
    return collector


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_there_is_a_record_of_each_bag_in_order(stage):
    bags = make_bags(5)
    batches = [collate_bags(bags[:2]), collate_bags(bags[2:])]
    ((told, records),) = run(Kept(), batches, stage).finished
    assert told == stage
    assert [record.bag_id for record in records] == ["0", "1", "2", "3", "4"]
    for i, (record, bag) in enumerate(zip(records, bags, strict=True)):
        assert int(record.y) == bag.y
        assert float(record.columns["prediction"]) == pytest.approx(i / 100)
        assert record.columns["probability"].tolist() == pytest.approx([1 - i / 100, i / 100])
        assert record.part == "test"
        assert record.size == len(bag) == len(record.scores) == len(record.weights)
        assert torch.equal(record.y_inst, bag.y_inst)
        assert torch.equal(record.coords, bag.coords)
        assert record.images is None
        assert not record.sampled
    assert torch.equal(records[1].scores, torch.tensor([1.0, 2.0]))  # the second bag of the batch


def test_what_is_not_known_is_none():
    batch = collate_bags([Bag(torch.zeros(2, 3), bag_id="0")])
    ((_, (record,)),) = run(Kept(), [batch], attention=False).finished
    unknown = (record.y, record.scores, record.weights, record.y_inst, record.coords, record.images)
    assert unknown == (None,) * 6


def test_the_data_module_says_which_part_is_predicted():
    batch, data = collate_bags(make_bags(2)), SimpleNamespace(predicted="val")
    for stage, part in (("predict", "val"), ("test", "test")):
        ((_, records),) = run(Kept(), [batch], stage, data=data).finished
        assert [record.part for record in records] == [part] * 2


def test_columns_of_all_records_are_stacked():
    ((_, records),) = run(Kept(), [collate_bags(make_bags(3))]).finished
    columns = stacked(records)
    assert columns["probability"].shape == (3, 2)
    torch.testing.assert_close(columns["prediction"], torch.tensor([0.0, 0.01, 0.02]))
    assert stacked([]) == {}


def test_records_are_handed_over_once():
    collector = Kept()
    batch = collate_bags(make_bags(2))
    run(collector, [batch])
    run(collector, [batch], "predict")
    assert [len(records) for _, records in collector.finished] == [2, 2]


def test_only_wanted_images_are_kept():
    batch = collate_bags(make_bags(4, (1, 2, 2)))
    ((_, records),) = run(Kept(images=2), [batch]).finished
    assert [record.images is not None for record in records] == [True, True, False, False]
    assert torch.equal(records[1].images, torch.ones(2, 1, 2, 2))


def test_records_hold_nothing_of_the_batch_but_their_own():
    bags = [
        Bag(
            torch.zeros(500, 1, 4, 4),
            y=torch.tensor([0, 1, 1]),
            y_inst=torch.zeros(500, dtype=torch.int64),
            coords=torch.zeros(500, 2),
            bag_id=str(i),
        )
        for i in range(16)
    ]
    batch = collate_bags(bags)
    outputs = outputs_of(batch) | {"columns": {"probability": torch.zeros(16, 3)}}
    collector = Kept(images=8)
    collector.on_test_batch_end(None, None, outputs, batch, 0)
    records = collector._records
    names = ("y", "scores", "weights", "y_inst", "coords", "images")
    tensors = [getattr(record, name) for record in records for name in names]
    tensors += [record.columns["probability"] for record in records]
    tensors = [each for each in tensors if each is not None]
    assert len(tensors) == 16 * 6 + 8
    for each in tensors:
        assert each.untyped_storage().nbytes() == each.nbytes
    # Pickling takes a few hundred bytes for each tensor, however small.
    size = sum(each.nbytes for each in tensors)
    assert len(pickle.dumps(records)) < 1.5 * size + 1000 * len(tensors)


def test_feature_vectors_are_no_images():
    ((_, records),) = run(Kept(images=9), [collate_bags(make_bags(3))]).finished
    assert all(record.images is None for record in records)


def test_of_large_images_the_patches_are_the_instances():
    canvas = Canvas((40, 40), [], np.empty((0, 2), np.int64))
    low = torch.zeros(1, 4, 4)
    batch = collate_images([LargeImage(low, canvas, i, f"image {i}") for i in range(2)])
    probability = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    outputs = {
        "columns": {"probability": probability},
        "sizes": torch.tensor([3, 3]),
        "scores": torch.arange(6.0),
        "weights": torch.arange(6.0) / 10,
        "coords": torch.arange(12.0).reshape(6, 2),
    }
    collector = Kept(images=9)
    trainer = SimpleNamespace(world_size=1, is_global_zero=True)
    collector.on_test_batch_end(trainer, None, outputs, batch, 0)
    collector.on_test_epoch_end(trainer, None)
    ((_, records),) = collector.finished
    assert [record.bag_id for record in records] == ["image 0", "image 1"]
    assert [int(record.y) for record in records] == [0, 1]
    for i, record in enumerate(records):
        assert record.sampled
        assert record.size == 3
        part = slice(3 * i, 3 * i + 3)
        assert torch.equal(record.columns["probability"], probability[i])
        for name in ("scores", "weights", "coords"):
            assert torch.equal(getattr(record, name), outputs[name][part])
        assert record.y_inst is None
        assert record.images is None


@pytest.mark.parametrize(("n", "world_size"), [(5, 2), (7, 3), (6, 3)])
def test_the_records_of_all_processes_come_in_the_order_of_the_data_set(monkeypatch, n, world_size):
    """Process r is given the bags r, r + world size, ..., as the sampler deals them."""
    bags = make_bags(n)
    shards, collectors = [], []

    def gather(mine, into):
        if into is not None:
            into[:] = shards

    monkeypatch.setattr(torch.distributed, "gather_object", gather)
    for rank in range(world_size):
        collector = Kept()
        batch = collate_bags(bags[rank::world_size])
        trainer = SimpleNamespace(world_size=world_size, is_global_zero=rank == 0)
        collector.on_test_batch_end(trainer, None, outputs_of(batch), batch, 0)
        shards.append(collector._records)
        collectors.append((collector, trainer))
    for collector, trainer in collectors:
        collector.on_test_epoch_end(trainer, None)
    ((_, records),) = collectors[0][0].finished
    assert [record.bag_id for record in records] == [str(i) for i in range(n)]
    assert all(not collector.finished for collector, _ in collectors[1:])
