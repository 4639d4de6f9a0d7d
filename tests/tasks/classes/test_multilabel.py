"""Several labels: columns of 0 and 1."""

import numpy as np
import pytest
import torch

from milforge.data.labels import LabelError, Labels
from milforge.tasks import Multilabel


def labels(**columns):
    return Labels({name: np.array(column) for name, column in columns.items()})


def encoded(**columns):
    task = Multilabel()
    return task, task.encode(labels(**columns))


@pytest.mark.parametrize(
    ("er", "pr"), [(["0", "1"], ["1", "1"]), ([0, 1], [1, 1]), (["0.0", "1.0"], [True, True])]
)
def test_columns_are_the_labels(er, pr):
    task, y = encoded(er=er, pr=pr)
    np.testing.assert_array_equal(y, np.array([[0, 1], [1, 1]], np.int64), strict=True)
    assert (task.class_names, task.num_outputs) == (("er", "pr"), 2)


def test_a_single_column_is_one_label():
    task, y = encoded(er=[0, 1, 1])
    assert (y.shape, task.num_outputs) == ((3, 1), 1)
    target = task.target(torch.as_tensor(y))
    assert task.loss(torch.zeros(3, 1), target).shape == (3,)


def test_names_of_the_config():
    task = Multilabel(class_names=["oestrogen", "progesterone"])
    task.encode(labels(er=[0], pr=[1]))
    assert task.class_names == ("oestrogen", "progesterone")
    with pytest.raises(LabelError, match=r"name of each of the label columns er, got oest.*, prog"):
        Multilabel(class_names=["oestrogen", "progesterone"]).encode(labels(er=[0]))


def test_columns_go_by_name_once_they_are_known():
    task = Multilabel(class_names=["E", "P"])
    task.encode(labels(er=[0], pr=[1]))
    again = Multilabel().from_state(task.state())
    assert again.class_names == ("E", "P")
    assert again.encode(labels(pr=[1, 0], more=[5, 5], er=[0, 0])).tolist() == [[0, 1], [0, 0]]
    with pytest.raises(LabelError, match="label columns er, pr, as in training, got er, her2: pr"):
        again.encode(labels(er=[0], her2=[1]))


def test_all_bags_at_fault_are_named():
    with pytest.raises(LabelError) as caught:
        encoded(er=["0", "2", "", "1"], pr=["1", "x", "1", "na"])
    assert caught.value.problems == {
        1: ("expected 0 or 1 in the column 'er', got '2'", "mend it, or remove the row"),
        2: ("expected 0 or 1 in the column 'er', got nothing", "fill it in, or remove the row"),
        3: ("expected 0 or 1 in the column 'pr', got nothing", "fill it in, or remove the row"),
    }


def test_a_list_of_weights_is_refused():
    with pytest.raises(ValueError, match="null or balanced for task=multilabel, got a list"):
        Multilabel(class_weights=[1, 2])


@pytest.mark.parametrize(
    ("y", "p", "expected"),
    [
        ([1, 0], [0.9, 0.8], ("er", "er, pr", 0.72)),
        ([0, 0], [0.1, 0.5], ("none", "none", 0.45)),
    ],
)
def test_a_bag_in_words(y, p, expected):
    task, _ = encoded(er=[0, 1], pr=[1, 0])
    told = task.describe({"probability": torch.tensor(p)}, torch.tensor(y))
    assert told[:2] == expected[:2]
    assert told.probability == pytest.approx(expected[2])


def test_kinds_of_bags():
    task, y = encoded(er=[0, 1, 1], pr=[0, 0, 1])
    kinds = {name: bags.tolist() for name, bags in task.kinds(torch.as_tensor(y)).items()}
    assert kinds == {
        "er": [False, True, True],
        "pr": [False, False, True],
        "none": [True, False, False],
    }
    assert task.is_positive(torch.as_tensor(y)).tolist() == [True] * 3
