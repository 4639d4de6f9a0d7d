"""The table of predicted bags, as somebody else may have left it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from milforge.predictions_file import read_bags_table
from milforge.report.read_predictions import read_predictions

WHOLE = {
    "bag_id": ["a", "b", "a"],
    "part": ["test", "test", "val"],
    "patient": ["p", None, "p"],
    "size": [3, 4, 3],
    "order": [0, 1, 0],
    "label": [0, 1, None],
    "probability_0": [0.25, 0.5, 1.0],
    "probability_1": [0.75, 0.5, 0.0],
}
METADATA = {"task": "Binary", "class_names": "no\nyes"}


def write(folder, columns, metadata=METADATA):
    path = folder / "predictions" / "bags.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, metadata=metadata), path)
    return path


def test_a_whole_one_is_read(tmp_path):
    path = write(tmp_path, WHOLE)
    assert read_bags_table(path).to_pydict() == WHOLE
    assert len(read_predictions(tmp_path)) == 3
    write(tmp_path, WHOLE | {"patient": pa.nulls(3)})
    assert set(read_predictions(tmp_path).patient) == {None}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"bag_id": ["a", None, "c"]}, "expected text as bag_id, got string"),
        ({"part": [["test"], ["test"], ["val"]]}, "expected text as part, got list"),
        ({"patient": [1, 2, 3]}, "expected text as patient, got int64"),
        ({"size": [3.0, 4.0, 3.0]}, "expected whole numbers as size, got double"),
        ({"order": [0, None, 0]}, "expected whole numbers as order, got int64"),
        ({"part": ["test"] * 3}, "it has a bag of a part more than once"),
    ],
)
def test_columns_of_other_types_are_damage(tmp_path, odd, message):
    path = write(tmp_path, WHOLE | odd)
    with pytest.raises(ValueError, match=rf"bags\.parquet is damaged \({message}.*\): evaluate"):
        read_bags_table(path)


def test_a_column_that_stands_twice_and_text_that_is_none_are_damage(tmp_path):
    path = write(tmp_path, WHOLE, {"task": b"\xff"})
    with pytest.raises(ValueError, match=r"is damaged \('utf-8' codec"):
        read_bags_table(path)
    names = [*WHOLE, "label"]
    table = pa.table([*WHOLE.values(), WHOLE["label"]], names)
    pq.write_table(table, path)
    with pytest.raises(ValueError, match=r"is damaged \(Multiple matches for .*label"):
        read_bags_table(path)


@pytest.mark.parametrize(
    "odd",
    [
        {"label": [0, 2, None]},
        {"label": [0.5, 1.0, None]},
        {"label_b": [0, 1, 0]},
        {"probability_1": [0.75, 1.5, 0.0]},
        {"probability_1": ["a", "b", "c"]},
        {"probability_2": [0.0, 0.0, 0.0]},
    ],
)
def test_labels_and_probabilities_are_those_of_the_classes(tmp_path, odd):
    write(tmp_path, WHOLE | odd)
    with pytest.raises(ValueError, match=r"bags\.parquet is damaged \(expected .* classes"):
        read_predictions(tmp_path)
    # Of what the labels of other tasks may be nothing is known.
    write(tmp_path, WHOLE | odd, {"task": "Own", "class_names": "no\nyes"})
    read_predictions(tmp_path)
