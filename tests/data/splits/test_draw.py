"""Splits: nothing leaks, every bag is tested once, classes are spread evenly."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from milforge.data import Split, check_split, kfold_splits, monte_carlo_splits

PARTS = ("train", "val", "test")


def make_bags(count, classes=2):
    """Ids whose order is not that of their numbers, and labels in turn."""
    return [f"bag {i}" for i in range(count)], [i % classes for i in range(count)]


@st.composite
def cohorts(draw):
    """Bags of patients, of two classes each of which is found in four patients at least."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=8, max_size=20))
    groups = [f"P{i}" for i, size in enumerate(sizes) for _ in range(size)]
    count = len(sizes) if draw(st.booleans()) else len(groups)
    labels = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    if count < len(groups):  # all bags of a patient have one label
        labels = [labels[int(group[1:])] for group in groups]
    for label in (0, 1):
        assume(len({g for g, y in zip(groups, labels, strict=True) if y == label}) >= 4)
    return [f"s{i}" for i in range(len(groups))], labels, groups


def assert_partition(split, ids):
    assert sorted(split.train + split.val + split.test) == sorted(ids)
    assert all(getattr(split, part) for part in PARTS)


def count_labels(part, ids, labels):
    of = dict(zip(ids, labels, strict=True))
    return Counter(of[bag] for bag in part)


@given(cohorts(), st.integers(2, 4), st.integers(1, 2), st.integers(0, 3))
def test_folds_of_patients_leak_nothing_and_test_each_bag_once(cohort, folds, repeats, seed):
    ids, labels, groups = cohort
    splits = kfold_splits(ids, labels, groups, folds=folds, repeats=repeats, seed=seed)
    assert len(splits) == folds * repeats
    for split in splits:
        assert_partition(split, ids)
        check_split(split, ids, groups)
    for repeat in range(repeats):
        tested = [bag for s in splits[repeat * folds : (repeat + 1) * folds] for bag in s.test]
        assert sorted(tested) == sorted(ids)


@given(cohorts(), st.integers(0, 3))
def test_random_splits_of_patients_leak_nothing(cohort, seed):
    ids, labels, groups = cohort
    for split in monte_carlo_splits(ids, labels, groups, splits=3, seed=seed):
        assert_partition(split, ids)
        check_split(split, ids, groups)


@given(st.lists(st.integers(0, 2), min_size=20, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_of_bags_are_stratified(labels, folds, seed):
    counts = Counter(labels)
    assume(min(counts.values()) >= folds)
    ids = [str(i) for i in range(len(labels))]
    for split in kfold_splits(ids, labels, folds=folds, val_share=0.2, seed=seed):
        tested, validated = (count_labels(p, ids, labels) for p in (split.test, split.val))
        for label, count in counts.items():
            assert abs(tested[label] - count / folds) < 1
            # As near to the share as whole bags can be, if one is left to train on.
            nearest = max(1, 0.2 * count)
            rest = count - tested[label]
            assert abs(validated[label] - min(nearest, rest - 1)) <= 0.5


@given(
    st.lists(st.integers(0, 2), min_size=9, max_size=60), st.floats(0.05, 0.6), st.integers(0, 9)
)
def test_random_splits_of_bags_are_stratified(labels, test_share, seed):
    counts = Counter(labels)
    assume(min(counts.values()) >= 3)
    ids = [str(i) for i in range(len(labels))]
    (split,) = monte_carlo_splits(
        ids, labels, splits=1, test_share=test_share, val_share=0.2, seed=seed
    )
    assert_partition(split, ids)
    parts = [count_labels(getattr(split, part), ids, labels) for part in PARTS]
    for label, count in counts.items():
        assert all(part[label] >= 1 for part in parts)
        assert abs(parts[2][label] - min(max(1, test_share * count), count - 2)) <= 0.5


@given(cohorts(), st.randoms(use_true_random=False))
def test_the_order_of_the_bags_does_not_matter(cohort, random):
    order = list(range(len(cohort[0])))
    random.shuffle(order)
    shuffled = [[column[i] for i in order] for column in cohort]
    assert kfold_splits(*cohort, folds=3) == kfold_splits(*shuffled, folds=3)
    assert monte_carlo_splits(*cohort, splits=2) == monte_carlo_splits(*shuffled, splits=2)


def test_the_seed_decides_and_a_longer_list_begins_with_the_shorter():
    bags = make_bags(40)
    assert kfold_splits(*bags, seed=1) == kfold_splits(*bags, seed=1)
    assert kfold_splits(*bags, seed=1) != kfold_splits(*bags, seed=2)
    twice = kfold_splits(*bags, repeats=2)
    assert twice[:5] == kfold_splits(*bags)
    assert not set(twice[:5]) & set(twice[5:])
    assert monte_carlo_splits(*bags, splits=5)[:2] == monte_carlo_splits(*bags, splits=2)


def test_every_bag_is_equally_likely_to_be_tested_and_to_validate():
    ids, labels = make_bags(20)
    splits = monte_carlo_splits(ids, labels, splits=2000, test_share=0.2, val_share=0.2)
    for part, each in (("test", 400), ("val", 400)):
        drawn = Counter(bag for split in splits for bag in getattr(split, part))
        assert sum(drawn.values()) == 2000 * 4
        assert len(drawn) == 20
        # Of 2 drawn of 10 the variance is 0.8 of that of 2000 free draws, so this errs to the safe.
        assert chisquare([drawn[bag] for bag in ids], [each] * 20).pvalue > 1e-3


def test_patients_of_unlike_size_come_near_the_shares():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 8, 60))
    labels = rng.integers(0, 2, 60)[groups]
    ids = [str(i) for i in range(len(groups))]
    for split in monte_carlo_splits(ids, labels, groups, splits=20, test_share=0.25):
        for part, share in ((split.test, 0.25), (split.val, 0.1)):
            counts = count_labels(part, ids, labels)
            for label in (0, 1):
                assert counts[label] == pytest.approx(share * (labels == label).sum(), abs=3.5)


def test_a_patient_larger_than_the_share_validates_where_no_other_can():
    ids = [str(i) for i in range(30)]
    groups = [i // 10 for i in range(30)]
    for split in kfold_splits(ids, [i % 2 for i in range(30)], groups, folds=3, val_share=0.05):
        assert [len(getattr(split, part)) for part in PARTS] == [10, 10, 10]


def test_names_and_tensors_are_labels_too():
    ids, labels = make_bags(20)
    named = [("tumour", "normal")[label] for label in labels]
    expected = kfold_splits(ids, [1 - label for label in labels])  # in the order of the names
    assert kfold_splits(ids, named) == expected
    assert kfold_splits(ids, np.array(named, dtype=object)) == expected
    assert kfold_splits(ids, torch.tensor(labels)) == kfold_splits(ids, labels)


def test_combinations_of_labels_are_spread_evenly():
    ids = [str(i) for i in range(40)]
    labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10)
    for split in kfold_splits(ids, labels, folds=5):
        tested = Counter(tuple(labels[int(bag)]) for bag in split.test)
        assert set(tested.values()) == {2}


def test_rare_combinations_of_labels_count_as_one_class():
    ids = [str(i) for i in range(30)]
    labels = np.zeros((30, 3), dtype=int)
    labels[:6] = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
    for split in kfold_splits(ids, labels, folds=3):
        assert sum(labels[int(bag)].any() for bag in split.test) == 2
    # ... and, too rare even together, go with the most frequent one
    labels[1:6] = 0
    assert len(kfold_splits(ids, labels, folds=3)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds >= 2"),
        ({"repeats": 0}, "repeats >= 1"),
        ({"folds": 2, "val_share": 0.5}, "val_share from 0 to less than 0.5, got 0.5"),
        ({"val_share": -0.1}, "val_share from 0 to less than 0.8, got -0.1"),
        ({"folds": 11}, "at least 11 bags of class 0, one for each of folds=11, got 10"),
    ],
)
def test_what_no_folds_can_be_made_of_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kfold_splits(*make_bags(20), **options)


def test_more_folds_than_patients_of_a_class_are_refused():
    ids, labels = make_bags(20)
    groups = [0 if label else i for i, label in enumerate(labels)]
    with pytest.raises(ValueError, match=r"at least 5 patients of class 1.*got 1"):
        kfold_splits(ids, labels, groups)
    labels = [label + 10 for label in labels]
    with pytest.raises(ValueError, match=r"at least 5 patients of class 10.*got 2"):
        kfold_splits(ids, labels, [i // 10 for i in range(20)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": 0}, "splits=0"),
        ({"splits": 1, "test_share": 1.0}, "test_share from 0 to less than 1, got 1.0"),
        ({"splits": 1, "test_share": 0.6, "val_share": 0.4}, "val_share from 0 to less than 0.4"),
    ],
)
def test_what_no_random_splits_can_be_made_of_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        monte_carlo_splits(*make_bags(20), **options)


def test_without_a_validation_part():
    ids, labels = make_bags(20)
    for split in kfold_splits(ids, labels, val_share=0, repeats=2):
        assert (len(split.train), split.val, len(split.test)) == (16, (), 4)
    # Who tests does not depend on who validates.
    tests = [split.test for split in kfold_splits(ids, labels)]
    assert [split.test for split in kfold_splits(ids, labels, val_share=0)] == tests
    (split,) = monte_carlo_splits(*make_bags(4), splits=1, val_share=0, test_share=0.5)
    assert (len(split.train), split.val, len(split.test)) == (2, (), 2)
    with pytest.raises(ValueError, match=r"at least 2 bags of class 1.*train and test, got 1"):
        monte_carlo_splits(*make_bags(3), splits=1, val_share=0)


def test_without_stratification_labels_count_for_nothing():
    """A class found in one bag is no obstacle, and the folds are those of other labels."""
    ids = [f"bag {i:02d}" for i in range(20)]
    rare, half = [1] + [0] * 19, [i % 2 for i in range(20)]
    groups = [i // 2 for i in range(20)]
    for each in (None, groups):
        options = {"groups": each, "stratify": False}
        assert kfold_splits(ids, rare, **options) == kfold_splits(ids, half, **options)
        drawn = monte_carlo_splits(ids, rare, splits=3, **options)
        assert drawn == monte_carlo_splits(ids, half, splits=3, **options)
        check_split(drawn[0], ids, each)
    # Stratified, each of 10 test parts holds one bag of either class; drawn at random, not.
    splits = kfold_splits(ids, half, folds=10, stratify=False)
    positives = [sum(half[ids.index(bag)] for bag in split.test) for split in splits]
    assert sum(positives) == 10
    assert set(positives) != {1}


def test_a_class_of_two_bags_cannot_be_in_three_parts():
    with pytest.raises(ValueError, match=r"at least 3 bags of class 1.*train, val and test, got 2"):
        monte_carlo_splits(*make_bags(5), splits=1)


def test_columns_that_do_not_fit_each_other_are_refused():
    ids, labels = make_bags(20)
    with pytest.raises(ValueError, match="label and a group for each of 20 bags"):
        kfold_splits(ids, labels[:19])
    with pytest.raises(ValueError, match="and 3 groups"):
        kfold_splits(ids, labels, ["a", "b", "c"])
    with pytest.raises(ValueError, match="got bag 3 twice"):
        kfold_splits([*ids[:19], "bag 3"], labels)


def test_a_part_without_bags_is_refused():
    """All bags of each class in two patients: one tests, one trains, none is left."""
    ids, labels = make_bags(8)
    with pytest.raises(ValueError, match="got 4, 0, 4: the patients are too few"):
        kfold_splits(ids, labels, [i // 4 for i in range(8)], folds=2)


IDS = ["a1", "a2", "b1", "c1", "d1"]
PATIENTS = ["A", "A", "B", "C", "D"]


def test_a_random_split_may_leave_no_test_bags():
    ids, labels = make_bags(10)
    for val_share, counts in ((0.2, (8, 2, 0)), (0, (10, 0, 0))):
        (split,) = monte_carlo_splits(ids, labels, splits=1, test_share=0, val_share=val_share)
        assert tuple(map(len, (split.train, split.val, split.test))) == counts


def test_a_good_split_passes_and_need_not_use_all_bags():
    check_split(Split(("a1", "a2"), ("b1",), ("c1",)), IDS, PATIENTS)
    check_split(Split(("a1",), ("a2",), ("c1",)), IDS)  # without patients
    check_split(Split(("a1", "a2"), (), ("c1",)), IDS, PATIENTS)  # none to select by
    check_split(Split((), (), ("a1", "c1")), IDS, PATIENTS)  # another cohort
    check_split(Split(("a1", "c1"), ("b1",), ()), IDS, PATIENTS)  # which will not be tested


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(("a1",), ("b1",), ("a2",)), "patients in both train and test: A:"),
        (Split(("c1",), ("a1",), ("a2",)), "patients in both val and test: A:"),
        (Split(("a1", "b1"), ("b1",), ("c1",)), "bags in both train and val: b1:"),
        (Split(("a1",), ("b1", "b1"), ("c1",)), "bags twice in val: b1:"),
        (Split(("a1",), ("b1",), ("x", "c1")), "bags of test that are not in the data: x:"),
    ],
)
def test_a_fault_of_a_split_is_named(split, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_split(split, IDS, PATIENTS)
    assert ";" not in str(caught.value)  # nothing else is said of it


def test_all_faults_are_told_and_of_many_the_first_ten():
    unknown = tuple(f"x{i:02d}" for i in range(13))
    with pytest.raises(ValueError, match="leaks") as caught:
        check_split(Split(unknown, ("b1",), ("b1",)), IDS, PATIENTS)
    assert "in the data: x00, x01" in str(caught.value)
    assert "; bags in both val and test: b1" in str(caught.value)
    assert "x00, x01, x02, x03, x04, x05, x06, x07, x08, x09 and 3 more" in str(caught.value)


@pytest.mark.parametrize("draw", ["kfold", "random"])
def test_patients_held_back_to_calibrate(draw):
    ids = [f"bag_{i:03d}" for i in range(120)]
    groups = [i // 2 for i in range(120)]
    labels = [i // 2 % 2 for i in range(120)]
    options = {"val_share": 0.1, "calibration_share": 0.15, "seed": 3}

    def splits(**more):
        if draw == "kfold":
            return kfold_splits(ids, labels, groups, **options | more)
        return monte_carlo_splits(ids, labels, groups, splits=3, **options | more)

    for split in splits():
        check_split(split, ids, groups)  # no patient on two sides
        assert sorted([*split.train, *split.val, *split.test, *split.calibration]) == ids
        assert len(split.calibration) == pytest.approx(18, abs=4)
        of = [labels[ids.index(bag)] for bag in split.calibration]
        assert 0.3 < sum(of) / len(of) < 0.7
    assert not any(split.calibration for split in splits(calibration_share=0))
    with pytest.raises(ValueError, match="calibration_share from 0 to less than"):
        splits(calibration_share=0.8)


def test_a_leak_from_the_calibration_part_is_a_fault():
    with pytest.raises(ValueError, match="patients in both test and calibration: A"):
        check_split(Split(("b1",), (), ("a1",), ("a2",)), IDS, PATIENTS)
