"""Bags without what they hold, and without what their labels say."""

import math
from dataclasses import replace

import pytest
import torch

from milforge.data import Bag, BagSplits, BagTable, bags_alone, digits_bags

SIZES = (4, 1, 9, 2, 5, 3)


def bags():
    return [
        Bag(torch.randn(n, 3), y=i % 2, coords=torch.zeros(n, 2), bag_id=f"bag {i}")
        for i, n in enumerate(SIZES)
    ]


@pytest.mark.parametrize("show", ["size", "order"])
def test_a_bag_is_one_number(show):
    expected = {
        "size": [math.log(n) for n in SIZES],
        "order": [i / len(SIZES) for i in range(len(SIZES))],
    }[show]
    splits = bags_alone(BagSplits(bags(), [], bags()), show)
    table = bags_alone(BagTable.of(bags(), list("ababab")), show)
    for found in (splits.train, splits.test, table.bags):
        values = [found[i].x for i in range(len(SIZES))]
        assert [tuple(x.shape) for x in values] == [(1, 1)] * len(SIZES)
        assert [x.item() for x in values] == pytest.approx(expected)
        assert found.sizes.tolist() == [1] * len(SIZES)
        assert found[-1].bag_id == "bag 5"
        assert found[0].coords is None
    assert splits.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert table.labels.columns["label"].tolist() == list("ababab")


def test_labels_are_shuffled_and_bags_are_not():
    data = digits_bags(train=60, val=20, test=40)
    shuffled = bags_alone(data, "labels", seed=1)
    assert shuffled.train.labels.sum() == data.train.labels.sum()
    assert 15 < (shuffled.train.labels != data.train.labels).sum() < 45
    assert torch.equal(shuffled.train[3].x, data.train[3].x)
    assert shuffled.train[3].y == shuffled.train.labels[3]
    again, other = bags_alone(data, "labels", seed=1), bags_alone(data, "labels", seed=2)
    assert torch.equal(again.train.labels, shuffled.train.labels)
    assert not torch.equal(other.train.labels, shuffled.train.labels)
    names = [f"patient {i}" for i in range(len(SIZES))]
    table = bags_alone(BagTable.of(bags(), names), "labels")
    assert sorted(table.labels.columns["label"]) == names != list(table.labels.columns["label"])


def test_labels_of_patients_are_shuffled_among_patients():
    """Of a task of times all slides of a patient have one time, and a table without is refused."""
    bags = [Bag(torch.zeros(1, 2), bag_id=str(i)) for i in range(60)]
    patients = [f"p{i // 3 if i < 30 else i}" for i in range(60)]  # of three slides, and of one
    table = replace(BagTable.of(bags, patients), groups=tuple(patients))
    shuffled = bags_alone(table, "labels", seed=1).labels.columns["label"].tolist()
    given = dict(zip(patients, shuffled, strict=True))
    assert [given[patient] for patient in patients] == shuffled
    assert sorted(given.values()) == sorted(set(patients))
    assert sum(given[patient] != patient for patient in given) > 30


def test_bags_of_a_patient_keep_one_label():
    patients = list("ppqrrs")
    for labels, alike in (("aabccd", True), ("abbccd", False)):
        table = bags_alone(BagTable.of(bags(), list(labels), groups=patients), "labels", seed=2)
        found = table.labels.columns["label"].tolist()
        assert found != list(labels)
        of_patient = [{found[i] for i in range(6) if patients[i] == p} for p in "pqrs"]
        assert all(len(each) == 1 for each in of_patient) == alike
        if alike:  # each label is given to as many patients as before
            assert sorted(label for each in of_patient for label in each) == list("abcd")
        else:
            assert sorted(found) == sorted(labels)
    # Where each bag is a patient it is the shuffling of bags.
    names = [f"patient {i}" for i in range(len(SIZES))]
    tables = [BagTable.of(bags(), names, groups=each) for each in (None, names[::-1])]
    one, other = (bags_alone(each, "labels").labels.columns["label"] for each in tables)
    assert one.tolist() == other.tolist()


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="expected bags_alone to be size, order, labels or null"):
        bags_alone(BagSplits(bags(), [], bags()), "sizes")
