"""Several classes: their order, and what is said of a bag."""

import numpy as np
import pytest
import torch

from milforge.data.labels import LabelError, Labels
from milforge.tasks import Multiclass


def labels(*values, names=()):
    return Labels({"grade": np.array(values)}, names)


def encoded(*values, **options):
    task = Multiclass(**options)
    return task, task.encode(labels(*values))


@pytest.mark.parametrize(
    ("values", "options", "names", "numbers"),
    [
        (["10", "9", "9", "100"], {}, ("9", "10", "100"), [1, 0, 0, 2]),
        (["b", "c", "a"], {"class_names": ["c", "b", "a"]}, ("c", "b", "a"), [1, 0, 2]),
        (["b"], {"class_names": ["a", "b", "x"]}, ("a", "b", "x"), [1]),
        (["a", "b"], {}, ("a", "b"), [0, 1]),
        ([2.0, 3.0, 5.0], {"class_names": [5, 3, 2]}, ("5", "3", "2"), [2, 1, 0]),
    ],
)
def test_order_of_the_classes(values, options, names, numbers):
    task, y = encoded(*values, **options)
    assert (task.class_names, task.num_outputs) == (names, len(names))
    assert y.tolist() == numbers


def test_labels_of_a_generated_data_set():
    task = Multiclass()
    y = task.encode(labels(2, 0, names=("zero", "one", "two")))
    assert (task.class_names, y.tolist()) == (("zero", "one", "two"), [2, 0])
    with pytest.raises(LabelError, match="classes zero, one, two, got '3'"):
        Multiclass().encode(labels(3, 0, names=("zero", "one", "two")))


def test_what_was_learnt_is_not_found_anew():
    task, _ = encoded("a", "b", "c")
    again = Multiclass(class_names=["b", "c"]).from_state(task.state())
    assert again.encode(labels("c", "b")).tolist() == [2, 1]
    with pytest.raises(LabelError, match=r"among the classes a, b, c, got 'd': mend it, or remove"):
        again.encode(labels("d"))


def test_one_class_is_refused():
    with pytest.raises(LabelError, match=r"at least two classes in .*'grade', got one: 'a'"):
        encoded("a", "a")
    with pytest.raises(ValueError, match=r"at least two names in task\.class_names for task=multi"):
        Multiclass(class_names=["a"])


def test_several_columns_are_refused():
    with pytest.raises(LabelError, match="one label column for task=multiclass, got er, pr"):
        Multiclass().encode(Labels({"er": np.array([0]), "pr": np.array([1])}))


def test_the_state_of_another_task_is_refused():
    with pytest.raises(ValueError, match="of a multiclass task, got one of kind 'binary'"):
        Multiclass().from_state({"kind": "binary", "class_names": ["a", "b"], "weights": None})


def test_a_bag_in_words():
    task, y = encoded("a", "b", "c")
    told = task.describe({"probability": torch.tensor([0.1, 0.3, 0.6])}, torch.tensor(0))
    assert told[:2] == ("a", "c")
    assert told.probability == pytest.approx(0.6)
    kinds = task.kinds(torch.as_tensor(y))
    assert {name: bags.nonzero().flatten().tolist() for name, bags in kinds.items()} == {
        "a": [0],
        "b": [1],
        "c": [2],
    }
    assert task.is_positive(torch.as_tensor(y)).all()  # each class may have its instances
