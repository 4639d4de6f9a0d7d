"""Which task labels look like."""

import logging

import numpy as np
import pytest
import torch

from milforge.data.labels import LabelError, Labels
from milforge.tasks import Auto, Binary, Multiclass, Multilabel


def labels(values, names=()):
    return Labels({"label": np.array(values)}, names)


def several(**columns):
    return Labels({name: np.array(column) for name, column in columns.items()})


DECIMALS = [f"{0.5 + 0.37 * number:.2f}" for number in range(30)]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (labels(["no", "yes", "", "no"]), Binary),
        (labels(["0", "1"]), Binary),
        (labels([0, 1, 1]), Binary),
        (labels(["0.5", "1.5"]), Binary),
        (labels(["a", "b", "c"]), Multiclass),
        (labels(["1", "2", "3"]), Multiclass),
        (labels([0, 0], ("no 9", "9")), Binary),
        (labels([0, 0], ("zero", "one", "two")), Multiclass),
        (labels([f"site {number}" for number in range(60)]), Multiclass),
        (labels([str(number % 20) for number in range(60)]), Multiclass),
        (labels(DECIMALS[:5] * 3), Multiclass),
        (several(er=["0", "1"], pr=["1", ""]), Multilabel),
        (several(er=[0, 1, 1], pr=[1, 0, 2]), Multilabel),  # which reports the 2
    ],
)
def test_the_task_is_found(given, kind):
    task = Auto(class_weights="balanced").resolve(given)
    assert type(task) is kind
    assert task.class_weights == "balanced"


def test_options_are_handed_on():
    task = Auto(["b", "a"], positive="b").resolve(labels(["a", "b"]))
    assert task.encode(labels(["a", "b"])).tolist() == [0, 1]
    task = Auto(["c", "b", "a"], class_weights=[1, 2, 3]).resolve(labels(["a", "b"]))
    assert (type(task), task.class_names) == (Multiclass, ("c", "b", "a"))
    task = Auto(["E", "P"]).resolve(several(er=[0], pr=[1]))
    assert (type(task), task.class_names) == (Multilabel, ("E", "P"))


@pytest.mark.parametrize(
    "values",
    [
        DECIMALS,
        [text.replace(".", ",") for text in DECIMALS],
        DECIMALS[:3],
        [*DECIMALS, "", "unknown"],
        np.linspace(0, 1, 9),
        [str(number) for number in range(21)],
        list(range(40, 62)),
        [str(number % 25) for number in range(500)],
    ],
)
def test_numbers_to_be_predicted_are_refused(values):
    message = r"expected classes in the label column 'label', got \d+ different numbers .*"
    with pytest.raises(LabelError, match=message + r"task=regression predicts numbers") as caught:
        Auto().resolve(labels(values))
    assert caught.value.problems == {}
    # ... unless they are named
    names = ["0", "1"]
    assert type(Auto(names).resolve(labels(values))) is Binary


def test_the_order_of_numbers_is_ignored_and_it_is_said(caplog):
    caplog.set_level(logging.INFO)
    Auto().resolve(labels(["2017", "2021", "2019", "2017"]))
    assert caplog.messages == [
        "the numbers 2017, 2019, 2021 are 3 classes, whose order is ignored; task=regression "
        "predicts numbers"
    ]


@pytest.mark.parametrize(
    "given", [labels(["0", "1"]), labels(["a", "b", "1"]), labels([2, 0], ("0", "1", "2"))]
)
def test_nothing_is_said_of_other_classes(given, caplog):
    caplog.set_level(logging.INFO)
    Auto().resolve(given)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (labels(["a", "a"]), "at least two classes in the label column 'label', got one: 'a'"),
        (labels(["", "nan"]), "got none"),
        (several(er=["0", "1"], age=["63", "40"]), r"0 and 1 in each .*er, age, got '63' in 'age'"),
        (several(er=["0", "1"], grade=["low", "high"]), "got 'low' in 'grade': task=regression"),
    ],
)
def test_labels_that_look_like_no_task(given, message):
    with pytest.raises(LabelError, match=message):
        Auto().resolve(given)


@pytest.mark.parametrize("given", [labels(["a", "b", "c"]), several(er=[0], pr=[1])])
def test_a_positive_class_is_one_of_two(given):
    message = r"two classes for task\.positive=a, got labels that are multi\w+: leave it out"
    with pytest.raises(LabelError, match=message):
        Auto(positive="a").resolve(given)


@pytest.mark.parametrize(
    "given", [labels(["a", "b"]), labels(["a", "b", "c"]), several(er=[0, 1], pr=[1, 0])]
)
def test_a_checkpoint_tells_what_was_chosen(given):
    task = Auto(class_weights="balanced").resolve(given)
    y = torch.as_tensor(task.encode(given))
    task.fit(y)
    again = Auto(class_weights="balanced").from_state(task.state())
    assert type(again) is type(task)
    assert again.state() == task.state()
    assert torch.equal(torch.as_tensor(again.encode(given)), y)


@pytest.mark.parametrize("state", [{}, {"kind": "regression", "columns": ["age"]}])
def test_other_checkpoints_are_refused(state):
    with pytest.raises(ValueError, match=r"for task=auto, got one of kind .*: name that task"):
        Auto().from_state(state)


def test_nothing_else_may_be_asked_of_it():
    task = Auto()
    with pytest.raises(RuntimeError, match="resolve\\(\\) or from_state\\(\\) first"):
        task.encode(labels(["a", "b"]))
    with pytest.raises(RuntimeError, match="no task itself"):
        task.loss(torch.zeros(1, 1), target=torch.zeros(1, 1))
    assert set(task.metric_types) == {"auroc", "accuracy", "f1", "ap", "ece"}
