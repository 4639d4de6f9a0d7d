"""What a data set function returns, and what it declares of its options."""

import numpy as np
import pytest
import torch

from milforge.data import Bag, BagList, BagSplits, BagTable, Labels, changes_nothing

NAMES = ("a", "b", "c")
SIZES = {"a": 3, "b": 1, "c": 2}
BAGS = [Bag(torch.ones(size, 2), bag_id=name) for name, size in SIZES.items()]


def test_parts_are_lists_or_data_sets_and_nothing_is_said_of_classes():
    splits = BagSplits(BAGS[:1], BagList(BAGS[1:2]), [])
    assert (len(splits.train), len(splits.val), len(splits.test)) == (1, 1, 0)
    assert splits.class_names == ()


def test_a_covariate_is_that_of_each_bag():
    covariates = {"age": ["40", "50", "60"]}
    assert BagSplits(BAGS[:2], [], BAGS[2:], covariates=covariates).covariates == covariates
    with pytest.raises(ValueError, match="covariate 'age' for each of 2 bags, got 3"):
        BagSplits(BAGS[:1], [], BAGS[2:], covariates=covariates)


def test_a_table_of_bags_alone():
    """As they are predicted."""
    table = BagTable(BAGS, NAMES)
    assert table.bags is BAGS
    assert (table.labels, table.groups, table.training_bags) == (None, None, None)
    assert (dict(table.columns), table.covariates, table.faults) == ({}, (), ())
    assert (table.on_error, table.check, table.source) == ("raise", False, "the data set")


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["x", "y", "x"], "U"),
        ([0, 1, 1], "i"),
        ([0.5, 1, float("nan")], "f"),
        (torch.tensor([0, 1, 1]), "i"),
        ([[0, 1], [1, 1], [0, 0]], None),
    ],
)
def test_a_table_of_a_list_of_bags(labels, kind):
    if kind is None:  # several labels are several columns
        columns = {"er": np.array(labels)[:, 0], "pr": np.array(labels)[:, 1]}
        table = BagTable(BAGS, NAMES, Labels(columns))
        assert table.labels.names == ("er", "pr")
        return
    table = BagTable.of(BAGS, labels, groups=[7, 7, 8], class_names=["no", "yes"])
    assert table.ids == NAMES
    assert table.labels.names == ("label",)
    assert table.labels.class_names == ("no", "yes")
    column = table.labels.columns["label"]
    assert column.dtype.kind == kind
    np.testing.assert_array_equal(column, np.asarray(labels))
    assert table.groups == ("7", "7", "8")
    assert list(table.bags) == BAGS
    assert table.bags is not BAGS  # a list that grows later is no part of it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bags": BAGS[:2]}, "^expected 3 bags, one for each of the ids, got 2$"),
        ({"labels": Labels({"label": np.zeros(4)})}, "expected 3 labels, .* got 4"),
        ({"groups": ("p",)}, "expected 3 groups, .* got 1"),
        ({"training_bags": BAGS[1:]}, "expected 3 training_bags, .* got 2"),
        ({"columns": {"age": ["1", "2"]}}, "expected 3 values of column 'age', .* got 2"),
        ({"ids": ("a", "b", "a")}, r"ids that differ .* got twice: 'a'$"),
        ({"ids": ("", "", "a")}, r"without a bag_id has the id ''\), got twice: ''$"),
        (
            {"covariates": ("age", "stage"), "columns": {"age": ["1", "2", "3"], "sex": ["f"] * 3}},
            r"^expected data\.covariates among the columns age, sex, got stage$",
        ),
        ({"covariates": ("age",)}, r"among the columns \(none\), got age$"),
        ({"on_error": "ignore"}, r"data\.on_error to be raise or skip, got 'ignore'"),
    ],
)
def test_what_does_not_describe_the_same_bags_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BagTable(**{"bags": BAGS, "ids": NAMES} | change)


def test_bags_without_names_are_told_before_they_are_split():
    with pytest.raises(ValueError, match="bag without a bag_id has the id ''"):
        BagTable.of([Bag(torch.zeros(1, 2))] * 3, [0, 1, 0])


def test_as_many_labels_as_bags_in_a_list():
    with pytest.raises(ValueError, match=r"expected 3 labels, .* got 2"):
        BagTable.of(BAGS, [0, 1])


def test_what_changes_nothing_is_declared_at_the_function():
    @changes_nothing("cache", "check")
    def bags(root, cache=None, check="full"):
        """Bags."""
        return root, cache, check

    assert bags.changes_nothing == ("cache", "check")
    assert bags("r", check="headers") == ("r", None, "headers")
    assert (bags.__name__, bags.__doc__) == ("bags", "Bags.")
