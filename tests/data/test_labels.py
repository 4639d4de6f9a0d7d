"""Label columns before a task has given them a meaning."""

import numpy as np
import pytest

from milforge.data import LabelError, Labels


def test_columns():
    labels = Labels({"er": np.array(["1", "0"]), "size": np.array([2.5, 3.0])}, ("er", "size"))
    assert len(labels) == 2
    assert labels.names == ("er", "size")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (np.array(["1", "0"]), True),
        (np.array([b"1", b"0"]), True),
        (np.array(["1", None], object), True),
        (np.array([1, 0]), False),
        (np.array([1.5, np.nan]), False),
        (np.array([True, False]), False),
    ],
)
def test_text_in_any_column(column, text):
    assert Labels({"label": column}).is_text is text
    assert Labels({"number": np.zeros(2), "label": column}).is_text is text


@pytest.mark.parametrize("rows", [[2, 0], np.array([1, 1]), [], (-1,)])
def test_some_of_them(rows):
    columns = {"a": np.array(["x", "y", "z"]), "b": np.array([0, 1, 2])}
    some = Labels(columns, ("p", "q", "r")).take(rows)
    assert (len(some), some.names, some.class_names) == (len(rows), ("a", "b"), ("p", "q", "r"))
    assert some.columns["a"].tolist() == [["x", "y", "z"][row] for row in rows]
    assert some.columns["b"].tolist() == [[0, 1, 2][row] for row in rows]
    assert some.is_text


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "^expected label columns of one length, got none$"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, r"one length, got \{'a': 2, 'b': 3\}$"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Labels(columns)


def test_an_error_tells_the_bags_at_fault():
    problems = {3: ("expected a label, got nothing", "fill it in")}
    error = LabelError("no label", problems)
    assert isinstance(error, ValueError)
    assert (str(error), error.problems) == ("no label", problems)
    assert LabelError("all of one class").problems == {}
