"""How cells of label columns are read, and what a config says of classes."""

import numpy as np
import pytest

from milforge.data.labels import MISSING, LabelError, Labels
from milforge.tasks.classes.class_labels import class_names_of, class_numbers, class_texts
from milforge.tasks.classes.class_weights import balanced, checked_weights, of_mean_one
from milforge.tasks.reading import columns_named, names_of, number, only_column, texts
from milforge.tasks.states import part_of


@pytest.mark.parametrize("written", [*MISSING, "NaN", " N/A ", "None", "NULL"])
def test_what_is_missing(written):
    assert texts(np.array([written, "x"])) == ["", "x"]
    assert texts(np.array([written, "x"], dtype=object)) == ["", "x"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.array(["1.50", " b"]), ["1.50", "b"]),
        (np.array([1, 20]), ["1", "20"]),
        (np.array([1.0, np.nan, 0.25]), ["1", "", "0.25"]),
        (np.array([True, False]), ["1", "0"]),
        (np.array([None, float("nan"), 2.0, 7], dtype=object), ["", "", "2", "7"]),
    ],
)
def test_texts(column, expected):
    assert texts(column) == expected


@pytest.mark.parametrize("text", ["", "x", "1,5", "inf", "-inf", "nan", "1.2.3"])
def test_what_is_no_number(text):
    assert number(text) is None


def test_names_of_a_config():
    assert names_of(None, "task.class_names") == ()
    assert names_of([0, " b "], "task.class_names") == ("0", "b")
    with pytest.raises(ValueError, match=r"task\.class_names to be text, got False: YAML .*quotes"):
        names_of(["yes", False], "task.class_names")
    with pytest.raises(ValueError, match=r"different names in task\.class_names, got 'a' twice"):
        names_of(["a", "b", "a"], "task.class_names")
    with pytest.raises(ValueError, match="to be a list of names, got 'ab'"):
        names_of("ab", "task.class_names")


def test_columns():
    labels = Labels({"er": np.array([0]), "pr": np.array([1])})
    with pytest.raises(LabelError, match=r"one label column for task=binary, got er, pr: task=mul"):
        only_column(labels, "binary")
    assert [column.tolist() for column in columns_named(labels, ["pr", "er"])] == [[1], [0]]
    with pytest.raises(LabelError, match=r"columns pr, her2, as in training, got er, pr: her2 is"):
        columns_named(labels, ["pr", "her2"])


def test_order_of_the_classes():
    def found(values, class_names=()):
        labels = Labels({"label": np.array(values)}, class_names)
        names = class_texts(labels, "binary")
        return names, class_names_of(labels, names)

    assert found(["10", "9", "", "10"])[1] == ("9", "10")
    assert found(["b", "10", "a"])[1] == ("10", "a", "b")
    # Numbers of a generated data set count its classes; those that no bag has are there too.
    assert found([1, 0], ("no 9", "9", "x")) == (["9", "no 9"], ("no 9", "9", "x"))
    assert found([5.0, 2.0]) == (["5", "2"], ("2", "5"))
    assert found(["9", "no 9"], ("no 9", "9")) == (["9", "no 9"], ("no 9", "9"))


@pytest.mark.parametrize(("values", "got"), [(["a", "a", ""], "one: 'a'"), (["", "na"], "none")])
def test_too_few_classes(values, got):
    labels = Labels({"grade": np.array(values)})
    with pytest.raises(LabelError, match=f"at least two classes in .*'grade', got {got}") as caught:
        class_names_of(labels, class_texts(labels, "binary"))
    assert caught.value.problems == {}


@pytest.mark.parametrize(
    ("may_add", "remedy"),
    [(True, "mend it, or add it to task.class_names"), (False, "mend it, or remove the row")],
)
def test_all_bags_at_fault_are_named(may_add, remedy):
    with pytest.raises(LabelError) as caught:
        class_numbers(["a", "c", "b", ""], ["a", "b"], may_add=may_add)
    unknown = "expected the label among the classes a, b, got 'c'"
    assert caught.value.problems == {
        1: (unknown, remedy),
        3: ("expected the label, got nothing", "fill it in, or remove the row"),
    }
    assert str(caught.value) == f"{unknown}: {remedy}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("balance", "null, balanced or a list, got 'balance'"),
        ([1, -1], r"at least 0, got \[1.0, -1.0\]"),
        ([float("nan"), 1], "at least 0"),
        ([float("inf"), 1], "at least 0"),
    ],
)
def test_weights_of_a_config(given, message):
    assert checked_weights(None) is None
    assert checked_weights("balanced") == "balanced"
    assert checked_weights([0, 2]) == (0.0, 2.0)
    with pytest.raises(ValueError, match=message):
        checked_weights(given)


def test_weights_that_cannot_be():
    import torch

    with pytest.raises(ValueError, match=r"every class .*balanced, got counts \[3, 0\] for \('a',"):
        balanced(torch.tensor([3, 0]), ["a", "b"])
    with pytest.raises(ValueError, match=r"positive .*got \[0.0, 1.0\] for counts \[3, 0\]"):
        of_mean_one(torch.tensor([0.0, 1.0]), torch.tensor([3, 0]))


def test_states_of_other_tasks():
    with pytest.raises(ValueError, match=r"of a binary task, got one of kind 'multiclass': leave"):
        part_of({"kind": "multiclass"}, "binary", "class_names")
    with pytest.raises(ValueError, match=r"'class_names' in the task of the checkpoint, got kind:"):
        part_of({"kind": "binary"}, "binary", "class_names")
