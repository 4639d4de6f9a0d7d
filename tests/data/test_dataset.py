"""What a data set of bags offers, and what it may leave out."""

import pickle

import numpy as np
import pytest
import torch

from milforge.data import (
    Bag,
    BagList,
    LargeImage,
    TensorSource,
    as_dataset,
    bag_outline,
    bag_sizes,
    differs_by_epoch,
    set_epoch,
)


def bag(size, y=None, **parts):
    return Bag(torch.zeros(size, 2), y, **parts)


class Plain:
    """A data set with nothing but what every one has."""

    labels = None

    def __init__(self, bags):
        self.bags = bags

    def __len__(self):
        return len(self.bags)

    def __getitem__(self, index):
        return self.bags[index]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1], torch.tensor([0, 1])),
        ([0.5, -2.0], torch.tensor([0.5, -2.0])),
        ([torch.tensor([0, 1]), torch.tensor([1, 1])], torch.tensor([[0, 1], [1, 1]])),
        ([None, None], None),
        ([1, None], None),
        ([], None),
    ],
)
def test_labels_of_a_list(labels, expected):
    bags = BagList([bag(2, y) for y in labels])
    if expected is None:
        assert bags.labels is None
    else:
        torch.testing.assert_close(bags.labels, expected)


def test_sizes_of_a_list():
    sizes = BagList([bag(3), bag(0), bag(5)]).sizes
    np.testing.assert_array_equal(sizes, np.array([3, 0, 5], np.int64), strict=True)
    np.testing.assert_array_equal(BagList([]).sizes, np.array([], np.int64), strict=True)


def test_large_images_in_a_list():
    """An image is one item, however many patches of it are looked at."""
    image = LargeImage(torch.zeros(1, 4, 4), TensorSource(torch.zeros(1, 9, 9)), 1, "i")
    images = as_dataset([image, image])
    assert (images.labels.tolist(), bag_sizes(images).tolist()) == ([1, 1], [1, 1])


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_plain_sequence_becomes_a_data_set(kind):
    bags = [bag(3, 1), bag(1, 0)]
    data = as_dataset(kind(bags))
    assert isinstance(data, BagList)
    assert list(data) == bags
    assert data.labels.tolist() == [1, 0]


class Drawn(list):
    """A list of bags that differ from epoch to epoch."""

    def set_epoch(self, epoch):
        self[:] = [bag(1 + epoch, 1), bag(3, 0)]


def test_a_list_of_ones_own_still_takes_the_epoch():
    own = Drawn([bag(1, 1)])
    data = pickle.loads(pickle.dumps(as_dataset(own)))
    assert differs_by_epoch(data)
    set_epoch(data, 4)
    assert (data.labels.tolist(), data.sizes.tolist()) == ([1, 0], [5, 3])
    assert not differs_by_epoch(as_dataset([bag(1)]))


def test_a_list_that_knows_its_labels_is_a_data_set():
    class Labelled(Drawn):
        labels = torch.tensor([1])

    own = Labelled([bag(1)])
    assert as_dataset(own) is own


def test_a_data_set_stays_what_it_is():
    data = Plain([bag(3)])
    assert as_dataset(data) is data


def test_a_data_set_may_know_less():
    data = Plain([bag(3, coords=torch.ones(3, 2), bag_id="a")])
    assert bag_sizes(data) is None
    assert bag_outline(data, 0) is data[0]
    assert not differs_by_epoch(data)
    set_epoch(data, 3)  # nobody listens


def test_a_data_set_may_know_more():
    class Knowing(Plain):
        sizes = np.array([3])
        told = ()

        def outline(self, index):
            return Bag(torch.zeros(3, 0), bag_id=f"outline {index}")

        def set_epoch(self, epoch):
            self.told += (epoch,)

    data = Knowing([bag(3)])
    assert bag_sizes(data).tolist() == [3]
    assert bag_outline(data, 0).bag_id == "outline 0"
    assert differs_by_epoch(data)
    set_epoch(data, 3)
    set_epoch(data, 4)
    assert data.told == (3, 4)
