"""Which columns of a table are features; what is left out or doubtful is named."""

import logging

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from milforge.data.features.readers import open_reader
from milforge.data.features.readers.table_columns import describe_columns

ROWS = 12
BAGS = [f"b{row // 3}" for row in range(ROWS)]
LABELS = [row // 3 % 2 for row in range(ROWS)]


def values(seed):
    return np.random.default_rng(seed).normal(size=ROWS).round(3).tolist()


PLAIN = {"bag_id": BAGS, "label": LABELS, "f0": values(0), "f1": values(1)}


def write(path, columns):
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        csv.write_csv(table, path)
    return path


@pytest.mark.parametrize(
    ("suffix", "name"),
    [(".csv", "Unnamed: 0"), (".csv", ""), (".csv", " "), (".parquet", "__index_level_0__")],
)
def test_row_numbers_that_nobody_named_are_no_features(tmp_path, suffix, name):
    path = write(tmp_path / f"t{suffix}", {name: list(range(ROWS))} | PLAIN)
    reader = open_reader(path)
    assert reader.feature_names == ("f0", "f1")
    assert reader.read("b0").x.shape == (3, 2)
    assert reader.columns.left_out == {name: "row numbers without a name"}


def test_columns_by_their_names_and_in_that_order(tmp_path):
    path = write(tmp_path / "t.csv", PLAIN | {"f2": values(2), "word": ["w"] * ROWS})
    reader = open_reader(path, feature_columns=["f2", "f0"])
    assert reader.feature_names == ("f2", "f0")
    expected = np.array([values(2)[:3], values(0)[:3]], np.float32).T
    np.testing.assert_array_equal(reader.read("b0").x.numpy(), expected)
    why = "not in data.feature_columns"
    assert reader.columns.left_out == {"f1": why, "word": why}
    reader = open_reader(path, exclude_columns=["f1", "word"])
    assert reader.feature_names == ("f0", "f2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_columns": ["f0", "g"]}, r"t\.csv: expected the columns 'g' of data\.feature_c"),
        ({"exclude_columns": ["g"]}, r"expected the columns 'g' of data\.exclude_columns"),
        ({"feature_columns": ["f0", "f0"]}, "feature_columns: expected each column once, got 'f0'"),
        ({"feature_columns": ["label"]}, "'label' of .*t.csv is that of the label: take it out"),
        ({"feature_columns": ["f0"], "exclude_columns": ["f0"]}, "got it in both"),
        ({"feature_columns": ["word"]}, "expected numbers in the column 'word', got 'w' in row 0"),
        ({"exclude_columns": ["f0", "f1"]}, "expected at least one column of numbers"),
    ],
)
def test_columns_that_cannot_be_chosen(tmp_path, options, message):
    path = write(tmp_path / "t.csv", PLAIN | {"word": ["w"] * ROWS})
    with pytest.raises(ValueError, match=message):
        open_reader(path, **options)


def test_what_is_left_out_need_not_be_there_where_features_are_named(tmp_path):
    path = write(tmp_path / "t.csv", PLAIN)
    reader = open_reader(path, feature_columns=["f1"], exclude_columns=["gone"])
    assert reader.feature_names == ("f1",)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["?", *map(str, values(3)[1:])], r"'f2', got '\?' in row 0 .* in 1 of 12 rows: write a n"),
        (["0.5"] * 6 + ["high"] * 6, "'f2', got 'high' in row 6 .* in 6 of 12 rows"),
        (["0,5", "1,25"] * 6, "'f2', got '0,5' in row 0 .* in 12 of 12 rows: write numbers with a"),
    ],
)
def test_a_column_that_is_numbers_in_part_is_an_error(tmp_path, cells, message):
    for name in ("t.csv", "t.parquet"):
        path = write(tmp_path / name, PLAIN | {"f2": cells})
        with pytest.raises(
            ValueError, match=rf"{name}: .*{message}.*exclude_columns=\[f2\] leaves"
        ):
            open_reader(path)
        assert open_reader(path, exclude_columns=["f2"]).feature_names == ("f0", "f1")


def test_text_and_what_is_no_number_is_left_out_and_named(tmp_path):
    others = {
        "name": ["1", "2", "3"] + ["w"] * 9,
        "day": pa.array([0] * ROWS, pa.date32()),
        "nothing": pa.nulls(ROWS),
        "centre": pa.array(["x", "y"] * 6).dictionary_encode(),
    }
    reader = open_reader(write(tmp_path / "t.parquet", PLAIN | others))
    assert reader.feature_names == ("f0", "f1")
    assert reader.columns.left_out == {
        "name": "text",
        "day": "date32[day]",
        "nothing": "empty",
        "centre": "text",
    }


def test_true_and_false_are_1_and_0_and_named(tmp_path):
    truth = [True, False, None] * 4
    for name in ("t.csv", "t.parquet"):
        reader = open_reader(write(tmp_path / name, PLAIN | {"ring": truth}))
        assert reader.feature_names == ("f0", "f1", "ring")
        np.testing.assert_array_equal(reader.read("b1").x[:, 2].numpy(), [1, 0, np.nan])
        assert reader.columns.truth_values == ("ring",)


def test_numbers_of_every_kind_are_features(tmp_path):
    kinds = {
        "half": pa.array(np.arange(ROWS) % 5, pa.float64()).cast(pa.float16()),
        "whole": pa.array([3, 1] * 6, pa.uint8()),
        "gap": [None, 2] * 6,
        "money": pa.array(values(4)).cast(pa.decimal128(9, 3), safe=False),
        "level": pa.array([5, 7, 5] * 4).dictionary_encode(),
    }
    reader = open_reader(write(tmp_path / "t.parquet", PLAIN | kinds))
    assert reader.feature_names == ("f0", "f1", *kinds)
    x = reader.read("b0").x[:, 2:].numpy()
    money = np.array(values(4)[:3], np.float32)
    expected = np.stack([[0, 1, 2], [3, 1, 3], [np.nan, 2, np.nan], money, [5, 7, 5]], 1)
    np.testing.assert_allclose(x, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "column", "why"),
    [
        ("z", list(range(5, 5 + ROWS)), "it counts rows"),
        ("z", [0, 1, 2] * 4, "it counts rows"),
        ("z", [2.5 if label else -1.0 for label in LABELS], "it says the label of the bag"),
        ("instance_number", values(5), "by its name"),
        ("patientID", values(5), "by its name"),
        ("Fold", [1, 0, 3] * 4, "by its name"),
    ],
)
def test_doubtful_columns_stay_and_are_named(tmp_path, name, column, why):
    reader = open_reader(write(tmp_path / "t.csv", PLAIN | {name: column}))
    assert reader.feature_names == ("f0", "f1", name)
    assert reader.columns.doubtful == {name: why}


@pytest.mark.parametrize("name", ["f2", "grid", "area_mean", "foldable"])
def test_others_are_not_doubtful(tmp_path, name):
    column = [[3, 1, 3, 2][row % 4] for row in range(ROWS)]
    assert open_reader(write(tmp_path / "t.csv", PLAIN | {name: column})).columns.doubtful == {}


def test_what_a_user_is_to_know(tmp_path):
    others = {"": list(range(ROWS)), "ring": [True, False] * 6, "fold": [1, 0] * 6}
    path = write(tmp_path / "t.csv", PLAIN | others)
    said = describe_columns(path, open_reader(path).columns, most=2)
    assert said == [
        (logging.INFO, f"{path}: 4 feature columns: f0, f1, ..."),
        (logging.INFO, f"{path}: True and False are read as 1 and 0: 1 column: ring"),
        (logging.INFO, f"{path}: left out: 1 column: '' (row numbers without a name)"),
        (
            logging.WARNING,
            f"{path}: may be no features: 1 column: fold (by its name): data.exclude_columns "
            "leaves them out",
        ),
    ]
