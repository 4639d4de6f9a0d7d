"""Some bags of a data set with labels and covariates: all else is the data set's own."""

import pickle

import numpy as np
import pytest
import torch

from bag_folders import plain_folder
from milforge.data import (
    Bag,
    BagList,
    FeatureBags,
    ImageFolder,
    LabelledBags,
    LargeImage,
    TensorSource,
    bag_outline,
    bag_sizes,
    collate_bags,
    differs_by_epoch,
    open_reader,
    set_epoch,
)

SIZES = (3, 1, 4, 2)


def make_bags():
    return BagList(
        [
            Bag(
                torch.full((size, 2), float(number)),
                y=7,
                coords=torch.arange(2.0 * size).reshape(size, 2),
                y_inst=torch.zeros(size, dtype=torch.int64),
                bag_id=str(number),
            )
            for number, size in enumerate(SIZES)
        ]
    )


@pytest.mark.parametrize("numbers", [[2, 0], np.array([2, 0]), np.array([2, 0], np.int32)])
def test_bags_by_their_numbers(numbers):
    bags = make_bags()
    some = LabelledBags(bags, numbers, torch.tensor([1, 0]))
    assert len(some) == 2
    assert some.labels.tolist() == [1, 0]
    for index, number in enumerate((2, 0)):
        for bag in (some[index], some[index - 2]):
            assert (bag.bag_id, bag.y, bag.covariates) == (str(number), 1 - index, None)
            for name in ("x", "coords", "y_inst"):
                assert getattr(bag, name) is getattr(bags[number], name)
    for index in (2, -3):
        with pytest.raises(IndexError):
            some[index]
    assert [bag.bag_id for bag in some] == ["2", "0"]  # as a DataLoader or a loop asks


@pytest.mark.parametrize(
    ("labels", "kind"), [(torch.tensor([1, 0]), int), (torch.tensor([0.5, float("nan")]), float)]
)
def test_a_single_label_is_a_number(labels, kind):
    some = LabelledBags(make_bags(), [0, 1], labels)
    assert type(some[0].y) is kind
    torch.testing.assert_close(
        collate_bags(list(some)).y, labels, equal_nan=True
    )  # of the same dtype


def test_several_labels_are_a_tensor():
    labels = torch.tensor([[0.0, 1.0], [1.0, torch.nan]])
    some = LabelledBags(make_bags(), [3, 1], labels)
    torch.testing.assert_close(some[1].y, labels[1], equal_nan=True)
    torch.testing.assert_close(collate_bags(list(some)).y, labels, equal_nan=True)


def test_without_labels_the_bags_keep_their_own():
    some = LabelledBags(make_bags(), [3])
    assert (some.labels, some[0].y) == (None, 7)


def test_covariates():
    covariates = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    some = LabelledBags(make_bags(), [1, 3], torch.tensor([0, 1]), covariates)
    assert torch.equal(some[1].covariates, covariates[1])
    batch = collate_bags([some[1], some[0]])
    assert torch.equal(batch.covariates, covariates.flip(0))
    assert batch.y.tolist() == [1, 0]


def test_no_bags():
    none = LabelledBags(make_bags(), [])
    assert (len(none), list(none), none.sizes.tolist()) == (0, [], [])


def test_sizes_are_those_of_the_data_set():
    sizes = bag_sizes(LabelledBags(make_bags(), [3, 2, 2]))
    np.testing.assert_array_equal(sizes, np.array([2, 4, 4], np.int64), strict=True)


class Outlined(BagList):
    def outline(self, index):
        return Bag(torch.zeros(SIZES[index], 0), bag_id=f"outline {index}")


def test_outlines_are_those_of_the_data_set():
    assert bag_outline(LabelledBags(Outlined(make_bags()), [3, 1]), 1).bag_id == "outline 1"
    bags = make_bags()
    assert bag_outline(LabelledBags(bags, [3, 1]), 1) is bags[1]  # one without outlines


def test_the_epoch_is_told_where_anybody_listens():
    class Listening(BagList):
        told = ()

        def set_epoch(self, epoch):
            self.told += (epoch,)

    deaf, listening = LabelledBags(make_bags(), [0]), LabelledBags(Listening(make_bags()), [0])
    assert not hasattr(deaf, "set_epoch")
    assert not differs_by_epoch(deaf)
    set_epoch(deaf, 1)
    assert hasattr(listening, "set_epoch")
    assert differs_by_epoch(listening)
    set_epoch(listening, 5)
    assert listening.bags.told == (5,)
    # Nor does anything get lost where one stands on another.
    assert differs_by_epoch(LabelledBags(listening, [0]))
    assert not differs_by_epoch(LabelledBags(deaf, [0]))
    set_epoch(LabelledBags(listening, [0]), 6)
    assert listening.bags.told == (5, 6)


def test_drawn_instances_follow_the_epoch_in_a_copy_too(tmp_path):
    reader = open_reader(plain_folder(tmp_path, [30, 12]))
    bags = FeatureBags(reader, max_instances_per_bag=5)
    some = LabelledBags(bags, [0], torch.tensor([1]))
    assert some.sizes.tolist() == [5]
    assert bag_outline(some, 0).x.shape == (5, 0)
    copy = pickle.loads(pickle.dumps(some))
    first = some[0].x
    for epoch in (1, 0):
        some.set_epoch(epoch)
        copy.set_epoch(epoch)
        assert torch.equal(some[0].x, first) == (epoch == 0)
        assert torch.equal(copy[0].x, some[0].x)
    assert copy[0].y == 1


def test_large_images():
    source = TensorSource(torch.zeros(1, 40, 40), "a")
    some = LabelledBags(ImageFolder({"a": source, "b": source}), [1, 0], torch.tensor([1, 0]))
    assert isinstance(some[0], LargeImage)
    assert [(each.bag_id, each.y) for each in some] == [("b", 1), ("a", 0)]
    assert bag_sizes(some) is None


def test_large_images_have_no_covariates():
    image = LargeImage(torch.zeros(1, 4, 4), TensorSource(torch.zeros(1, 9, 9)), 1, "i")
    some = LabelledBags(BagList([image]), [0], covariates=torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"data\.covariates: large images have no covariates"):
        some[0]
