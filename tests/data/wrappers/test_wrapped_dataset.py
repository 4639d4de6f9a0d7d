from dataclasses import replace
from types import FunctionType

import numpy as np
import pytest
import torch

from milforge.data import (
    Bag,
    GraphBags,
    WrappedDataset,
    bag_outline,
    bag_sizes,
    set_epoch,
)
from milforge.data.dataset import LabelledDataset, OfferedByDataset, image_source
from milforge.graph import AdjacencyBuilder


class Plain:
    """What every data set of bags has, and no more."""

    labels = torch.tensor([0, 1])

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Bag(torch.full((3, 2), float(index)), coords=torch.arange(6).reshape(3, 2))


class Full(Plain):
    """All that a data set of bags may offer."""

    sizes = np.array([3, 3])
    epoch = 0

    def __getitem__(self, index):
        return replace(super().__getitem__(index), bag_id=f"epoch {self.epoch}")

    def outline(self, index):
        return replace(self[index], x=torch.empty(3, 0))

    def set_epoch(self, epoch):
        self.epoch = epoch

    def source(self, index):
        return f"source {index}"


def test_nothing_that_a_data_set_may_offer_is_lost():
    offered = {
        name
        for protocol in (LabelledDataset, OfferedByDataset)
        for name, value in vars(protocol).items()
        if isinstance(value, property | FunctionType) and value.__doc__
    } - {"__init__", "__subclasshook__"}
    # What a subclass gives by `__getitem__` is not known to be read into memory: see `reads_into`.
    offered -= {"read_into"}
    assert offered == {"__len__", "__getitem__", "labels", "sizes", "outline", "set_epoch"} | {
        "faults",
        "state",
        "tile",
        "source",
    }
    # Of bags that do not differ by epoch it has no such method either.
    assert offered - {"set_epoch"} <= vars(WrappedDataset).keys()
    assert hasattr(WrappedDataset(Full()), "set_epoch")
    assert not hasattr(WrappedDataset(Plain()), "set_epoch")


@pytest.mark.parametrize(
    "wrap", [WrappedDataset, lambda bags: GraphBags(bags, AdjacencyBuilder("knn", k=1))]
)
def test_it_is_handed_on_through_any_number_of_wrappers(wrap):
    bags = wrap(wrap(Full()))
    assert len(bags) == 2
    assert bags.labels is Plain.labels
    assert bag_sizes(bags) is Full.sizes
    assert bag_outline(bags, 1).x.shape == (3, 0)
    assert image_source(bags, 1) == "source 1"
    assert bags[1].bag_id == "epoch 0"
    set_epoch(bags, 2)
    assert bags[1].bag_id == bag_outline(bags, 1).bag_id == "epoch 2"


def test_what_the_data_set_does_not_offer_is_done_without():
    for bags in (Plain(), WrappedDataset(Plain())):
        assert bag_sizes(bags) is None
        assert image_source(bags, 1) is None
        assert torch.equal(bag_outline(bags, 1).x, torch.ones(3, 2))
        set_epoch(bags, 2)
