import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from milforge.data.faults import BagError
from milforge.data.features.readers import open_reader

COLUMNS = {
    "bag_id": ["b", "a", "b", "007"],
    "name": ["i1", "i2", "i3", "i4"],
    "patient": [1, 2, 1, 3],
    "f1": [1.5, 2.0, 3.0, 4.0],
    "f2": [1, 2, 3, 4],
    "inst_label": [0, 1, 1, 0],
    "label": ["yes", "no", "yes", "no"],
}


def write(path, columns=COLUMNS):
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
        return path
    mark = "\t" if path.suffix == ".tsv" else ","
    rows = [columns.keys(), *zip(*columns.values(), strict=True)]
    path.write_text("".join(mark.join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_table_of_instances(tmp_path, suffix, inside):
    path = write(tmp_path / f"bags{suffix}")
    reader = open_reader(tmp_path if inside else path)
    bag, header = reader.read("b"), reader.header("b")
    assert (reader.layout, reader.ids, reader.streams) == ("table", ("007", "a", "b"), ("x",))
    assert bag.x.dtype == torch.float32
    assert bag.x.tolist() == [[1.5, 1], [3, 3]]
    assert bag.y_inst.tolist() == [0, 1]
    assert (bag.y, bag.coords, reader.coords("b")) == (None, None, None)
    assert reader.read("b", np.array([1])).x.tolist() == [[3, 3]]
    assert (reader.label("b"), reader.label("007"), reader.group("b")) == ("yes", "no", "1")
    assert (header.instances, header.widths, header.files) == (2, {"x": 2}, {"x": path})


def test_uci_data_without_a_line_of_names(tmp_path):
    rows = ["MUSK-2,m2_1,3,-4,5,1.", "NON-1,n1_1,1,2,3,0.", "MUSK-2,m2_2,6,7,8,1."]
    (tmp_path / "clean.data").write_text("\n".join(rows))
    reader = open_reader(tmp_path)
    assert reader.ids == ("MUSK-2", "NON-1")
    assert reader.read("MUSK-2").x.tolist() == [[3, -4, 5], [6, 7, 8]]
    assert [reader.label(bag_id) for bag_id in reader.ids] == ["1", "0"]


def test_columns_by_config(tmp_path):
    renamed = {"scan": "bag_id", "grade": "label", "centre": "patient"}
    columns = {name: COLUMNS[renamed.get(name, name)] for name in ("scan", "centre", "f1", "grade")}
    path = write(tmp_path / "t.csv", columns)
    reader = open_reader(path, id_column="scan", label_column="grade", group_column="centre")
    assert reader.read("b").x.tolist() == [[1.5], [3]]
    assert (reader.label("b"), reader.group("b")) == ("yes", "1")
    with pytest.raises(ValueError, match=r"t\.csv: expected a column bag_id or .*scan, centre, f1"):
        open_reader(path)
    with pytest.raises(ValueError, match=r"a column nose, got .*grade.*data\.label_column"):
        open_reader(path, id_column="scan", label_column="nose")


def test_without_labels(tmp_path):
    path = write(tmp_path / "t.csv", {"bag_id": ["a", "b"], "f1": [1, 2]})
    reader = open_reader(path)
    assert not reader.has_labels
    assert (reader.label("a"), reader.group("a"), reader.read("a").y_inst) == (None, None, None)


def test_labels_may_be_left_alone_and_are_no_features_then(tmp_path):
    path = write(tmp_path / "t.csv", COLUMNS | {"label": [1, 0, 1, 0]})
    reader = open_reader(path, label_column=[])
    assert (reader.has_labels, reader.label("a")) == (False, None)
    assert reader.feature_names == ("f1", "f2")
    assert open_reader(path, label_column=["label"]).label("b") == "1"
    with pytest.raises(ValueError, match=r"expected one data\.label_column.*got f2, label: give"):
        open_reader(path, label_column=["f2", "label"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("positive", "other"), [("tumour", "stroma"), (2, 0)])
def test_an_instance_label_that_is_missing_is_unknown(tmp_path, suffix, positive, other):
    missing = None if suffix == ".parquet" else ""
    columns = COLUMNS | {"bag_id": ["a"] * 4, "inst_label": [positive, missing, other, positive]}
    path = write(tmp_path / f"t{suffix}", columns)
    reader = open_reader(path, positive_instance_label=positive)
    assert reader.read("a").y_inst.tolist() == [1, -1, 0, 1]


def test_rows_of_a_bag_that_disagree(tmp_path):
    columns = COLUMNS | {"label": ["yes", "no", "no", "no"], "patient": [1, 2, 4, 3]}
    reader = open_reader(write(tmp_path / "t.csv", columns))
    with pytest.raises(BagError, match=r"t\.csv: expected one label of bag 'b', got no, yes: mend"):
        reader.label("b")
    with pytest.raises(BagError, match="expected one group of bag 'b', got 1, 4"):
        reader.group("b")


def test_missing_values_are_nan(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("bag_id,f1,f2,label\na,1,,0\na,,2.5,0\n")
    x = open_reader(path).read("a").x
    assert x.isnan().tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv: expected a table, got an empty file"),
        ("bag_id,f1\na,1\nb,2,3\n", "t.csv: expected a table, got .*Expected 2 columns, got 3"),
        ("bag_id,f1,f1\na,1,2\n", "t.csv: .*'f1' twice"),
        ("bag_id,word\na,b\n", "t.csv: expected at least one column of numbers .*bag_id, word"),
        ("bag_id,f1\na,1\n,2\n", r"t.csv: expected a bag in each row, got none in row 1"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        open_reader(path)


def test_no_such_bag(tmp_path):
    reader = open_reader(write(tmp_path / "t.csv"))
    with pytest.raises(BagError, match=r"t\.csv: expected rows of bag 'z', found none"):
        reader.header("z")
