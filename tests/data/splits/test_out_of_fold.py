"""Which models may predict a bag."""

import pytest

from milforge.data import kfold_splits
from milforge.data.splits.out_of_fold import OutOfFold


def test_each_bag_of_a_cross_validation_is_for_the_model_that_tests_it():
    ids = [f"s{i:02d}" for i in range(30)]
    patients = [i // 2 for i in range(30)]
    splits = kfold_splits(ids, [i % 2 for i in range(30)], patients, folds=5, stratify=False)
    folds = OutOfFold([{*split.train, *split.val} for split in splits])
    chosen = folds.choose(ids, None, patients)
    assert (chosen.train, chosen.val) == ((), ())
    assert sorted(chosen.test) == ids
    assert folds.left_out == ()
    for number, split in enumerate(splits):
        assert {bag for bag, members in folds.members.items() if members == (number,)} == {
            *split.test
        }


def test_a_model_has_seen_all_bags_of_a_patient():
    folds = OutOfFold([{"a1"}, {"b1"}])
    folds.choose(["a1", "a2", "b1", "b2"], None, ["A", "A", "B", "B"])
    assert folds.members == {"a1": (1,), "a2": (1,), "b1": (0,), "b2": (0,)}


def test_bags_that_all_have_seen_or_that_have_faults_are_left_out():
    folds = OutOfFold([{"a", "b"}, {"a"}])
    assert folds.choose(["a", "b", "c"], None, without=["c"]).test == ("b",)
    assert folds.left_out == ("a",)
    with pytest.raises(ValueError, match=r"all 1 bags were seen in training by every one of 2"):
        folds.choose(["a"], None)
