"""Columns of a table as numbers, against scikit-learn."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from milforge.data import CovariateEncoder
from milforge.data.labels import MISSING

numbers = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3))
texts = st.text("abXY 1", min_size=1, max_size=4).map(lambda text: "v" + text)


def column(values):
    return np.array(values, dtype=object)[:, None]


@given(st.lists(numbers, min_size=1, max_size=20), st.lists(numbers, min_size=1, max_size=5))
def test_numbers_are_standardised_with_the_statistics_of_training(train, test):
    encoder = CovariateEncoder.fit({"age": [str(x) for x in train]})
    assert encoder.names == ("age",)
    scaler = StandardScaler().fit(np.array(train)[:, None])
    for values in (train, test):
        got = encoder({"age": [str(x) for x in values]})
        assert got.dtype == torch.float32
        expected = scaler.transform(np.array(values)[:, None])
        if np.ptp(train) == 0:  # where it may not count, however other bags differ
            expected = np.zeros_like(expected)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@given(st.lists(texts, min_size=1, max_size=20), st.lists(texts, min_size=1, max_size=5))
def test_text_becomes_a_number_for_each_value_of_training(train, test):
    encoder = CovariateEncoder.fit({"stage": train})
    train, test = ([text.strip() for text in each] for each in (train, test))
    oracle = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(column(train))
    assert encoder.names == tuple(f"stage={value}" for value in oracle.categories_[0])
    for values in (train, test):
        np.testing.assert_array_equal(encoder({"stage": values}), oracle.transform(column(values)))


def test_columns_stand_side_by_side_in_the_order_given():
    columns = {"stage": ["II", "I", "II"], "age": ["40", "50", "60"], "sex": ["f", "m", "f"]}
    encoder = CovariateEncoder.fit(columns)
    assert encoder.names == ("stage=I", "stage=II", "age", "sex=f", "sex=m")
    alone = [CovariateEncoder.fit({name: texts})({name: texts}) for name, texts in columns.items()]
    shuffled = {**dict(reversed(columns.items())), "other": ["x"] * 3}  # by name, not by place
    assert torch.equal(encoder(shuffled), torch.cat(alone, dim=1))


@pytest.mark.parametrize("missing", [*MISSING, "NA", "NaN", "  ", "None"])
def test_missing_values_do_not_count(missing):
    """A missing number is the mean of training, as scikit-learn's scaler passes it over."""
    encoder = CovariateEncoder.fit({"age": ["40", missing, "60"], "stage": ["I", "II", missing]})
    scaler = StandardScaler().fit(np.array([[40.0], [np.nan], [60.0]]))
    assert encoder.columns[0]["mean"] == scaler.mean_[0]
    assert encoder.columns[0]["std"] == scaler.scale_[0]
    assert encoder.names == ("age", "stage=I", "stage=II")
    got = encoder({"age": ["40", missing], "stage": [missing, "I"]})
    assert got.tolist() == [[-1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("value", ["0.1", "7", "1e-9", "123456.789"])
def test_a_constant_number_is_zero_for_every_bag(value):
    """Rounding gives three times 0.1 a deviation of 1e-17; it is none to divide by."""
    encoder = CovariateEncoder.fit({"age": [value] * 3})
    assert encoder({"age": [value, "1e6", ""]}).tolist() == [[0], [0], [0]]


def test_an_unknown_value_is_none_of_the_known():
    encoder = CovariateEncoder.fit({"stage": ["I", "II"]})
    assert encoder({"stage": ["III", "I", " II "]}).tolist() == [[0, 0], [1, 0], [0, 1]]


def test_numbers_among_text_are_values():
    encoder = CovariateEncoder.fit({"grade": ["1", "2", "high"]})
    assert encoder.names == ("grade=1", "grade=2", "grade=high")


def test_infinity_is_no_number_to_be_scaled():
    assert CovariateEncoder.fit({"age": ["1", "inf"]}).names == ("age=1", "age=inf")
    with pytest.raises(ValueError, match="numbers in the column 'age'"):
        CovariateEncoder.fit({"age": ["1", "2"]})({"age": ["inf"]})


def test_round_trip_of_the_state():
    """It lies in a checkpoint, which holds plain data."""
    columns = {"age": ["40", "61.5", ""], "stage": ["I", "II", "NA"]}
    encoder = CovariateEncoder.fit(columns)
    again = CovariateEncoder(json.loads(json.dumps(encoder.state())))
    assert again.names == encoder.names
    assert torch.equal(again(columns), encoder(columns))
    assert again.state() == encoder.state()


def test_what_cannot_be_learnt_is_told():
    with pytest.raises(
        ValueError, match=r"^data\.covariates: expected values of 'age' in the training part, got n"
    ):
        CovariateEncoder.fit({"stage": ["I", "II"], "age": ["", "NA"]})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"stage": ["I"]}, "the column 'age', which the model was trained with, got stage$"),
        ({}, "the column 'age', which the model was trained with, got none$"),
        ({"age": ["old"]}, "numbers in the column 'age', as in training, got 'old'$"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    encoder = CovariateEncoder.fit({"age": ["40", "60"]})
    with pytest.raises(ValueError, match=rf"^data\.covariates: expected {message}"):
        encoder(columns)


def test_no_bags():
    encoder = CovariateEncoder.fit({"age": ["40", "60"], "stage": ["I", "II"]})
    assert encoder({"age": [], "stage": []}).shape == (0, 3)
