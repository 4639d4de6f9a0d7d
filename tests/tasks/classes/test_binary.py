"""Two classes: which is positive, and what is said of a bag."""

import logging

import numpy as np
import pytest
import torch

from milforge.data.labels import LabelError, Labels
from milforge.tasks import Binary


def labels(*values, names=()):
    return Labels({"label": np.array(values)}, names)


def encoded(*values, **options):
    task = Binary(**options)
    return task, task.encode(labels(*values))


def test_the_last_class_is_positive_and_it_is_said(caplog):
    caplog.set_level(logging.INFO)
    task, y = encoded("yes", "no", "yes")
    assert (task.class_names, y.tolist(), y.dtype) == (("no", "yes"), [1, 0, 1], np.int64)
    (line,) = caplog.messages
    assert line == "positive class: 'yes' (last of no, yes); task.positive=... chooses another"
    task.encode(labels("no"))  # it is settled now
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"positive": "benign"}, ("malignant", "benign")),
        ({"positive": "malignant"}, ("benign", "malignant")),
        ({"class_names": ["malignant", "benign"]}, ("malignant", "benign")),
        ({"class_names": ["benign", "malignant"], "positive": "benign"}, ("malignant", "benign")),
    ],
)
def test_the_positive_class_can_be_chosen(options, names):
    task, y = encoded("benign", "malignant", **options)
    assert task.class_names == names
    assert y.tolist() == [names.index("benign"), names.index("malignant")]


def test_nothing_is_said_where_it_was_chosen_or_the_data_know(caplog):
    caplog.set_level(logging.INFO)
    encoded("a", "b", positive="a")
    Binary().encode(labels(1, 0, names=("no 9", "9")))
    assert caplog.messages == []


def test_numbers_of_a_config_are_names():
    task, y = encoded("1", "0", positive=0)
    assert (task.class_names, y.tolist()) == (("1", "0"), [0, 1])


def test_labels_of_a_generated_data_set():
    task = Binary()
    assert task.encode(labels(1, 0, 1, names=("no 9", "9"))).tolist() == [1, 0, 1]
    assert task.class_names == ("no 9", "9")
    task = Binary(positive="no 9")
    assert task.encode(labels(1, 0, 1, names=("no 9", "9"))).tolist() == [0, 1, 0]
    # Both classes are known, though one has no bag.
    assert Binary().encode(labels(1, 1, names=("no 9", "9"))).tolist() == [1, 1]


def test_what_was_learnt_is_not_found_anew():
    task, _ = encoded("b", "a", "b", positive="a")
    again = Binary(positive="b").from_state(task.state())
    assert again.encode(labels("a", "b", "a")).tolist() == [1, 0, 1]
    assert again.encode(labels("b", "b")).tolist() == [0, 0]
    with pytest.raises(LabelError, match=r"among the classes b, a, got 'c': mend it, or remove"):
        again.encode(labels("a", "c"))


def test_bags_at_fault_are_named_and_the_others_can_be_taken():
    given = labels("a", "", "b", "NA")
    task = Binary(positive="a")
    with pytest.raises(LabelError, match="expected the label, got nothing: fill it in") as caught:
        task.encode(given)
    good = [row for row in range(4) if row not in caught.value.problems]
    assert good == [0, 2]
    assert task.encode(given.take(good)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ("abc", {}, "two classes for task=binary, got 3: a, b, c; task=multiclass takes them"),
        ("aa", {}, "at least two classes in the label column 'label', got one: 'a'"),
        ("ab", {"positive": "c"}, r"task\.positive among the classes a, b, got 'c'"),
        ("abc", {"class_names": ["a", "b"]}, "got 'c': mend it, or add it to task.class_names"),
    ],
)
def test_labels_that_do_not_fit(values, options, message):
    with pytest.raises(LabelError, match=message):
        encoded(*values, **options)


def test_several_columns_are_not_two_classes():
    with pytest.raises(LabelError, match="one label column for task=binary, got er, pr"):
        Binary().encode(Labels({"er": np.array([0]), "pr": np.array([1])}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a"]}, r"two names in task\.class_names for task=binary, got a"),
        ({"class_names": ["a", "b", "c"]}, "got a, b, c"),
        ({"positive": True}, r"task\.positive to be text, got True"),
        ({"class_weights": "auto"}, "got 'auto'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Binary(**options)


def test_both_probabilities_keep_their_digits():
    (told,) = Binary().predict(torch.tensor([[0.0], [40.0], [-40.0]])).values()
    small = torch.tensor(40.0).double().exp().reciprocal()
    torch.testing.assert_close(
        told, torch.tensor([[0.5, 0.5], [small, 1.0], [1.0, small]]).double(), rtol=1e-5, atol=0
    )


def test_what_metrics_are_fed():
    task, y = encoded("a", "b")
    columns = task.predict(torch.tensor([[-1.0], [2.0]]))
    fed = task.inputs(columns, task.target(torch.as_tensor(y)))
    torch.testing.assert_close(fed["preds"], torch.tensor([-1.0, 2.0]).double().sigmoid())
    assert fed["target"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("y", "p", "expected"),
    [
        (0, 0.2, ("no", "no", 0.8)),
        (0, 0.7, ("no", "yes", 0.7)),
        (1, 0.5, ("yes", "no", 0.5)),  # as the metrics count it: above 0.5
    ],
)
def test_a_bag_in_words(y, p, expected):
    task, _ = encoded("no", "yes")
    told = task.describe({"probability": torch.tensor([1 - p, p])}, torch.tensor(y))
    assert (told.truth, told.prediction) == expected[:2]
    assert told.probability == pytest.approx(expected[2])


def test_kinds_of_bags_the_positive_ones_first():
    task, y = encoded("no", "yes", "yes")
    kinds = task.kinds(torch.as_tensor(y))
    assert [(name, bags.tolist()) for name, bags in kinds.items()] == [
        ("yes", [False, True, True]),
        ("no", [True, False, False]),
    ]
    assert task.is_positive(torch.as_tensor(y)).tolist() == [False, True, True]


def test_it_has_no_outputs_before_the_labels():
    assert not hasattr(Binary(class_names=["a", "b"]), "num_outputs")
