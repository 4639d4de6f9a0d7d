import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bag_folders import write_labels, write_npy
from milforge.data.faults import BagError
from milforge.data.features.label_table import read_labels, stored_labels
from milforge.data.features.readers import open_reader


def texts(table, *names):
    """The label columns; a single one on its own."""
    assert table.labels.is_text
    assert table.labels.class_names == ()  # what they mean, the task says
    assert table.labels.names == (names or ("label",))
    columns = [column.tolist() for column in table.labels.columns.values()]
    return columns if names else columns[0]


def test_clam_table(tmp_path):
    text = "case_id,slide_id,label\np1,s2.svs,tumour\np1,s1.svs,normal\np2,TCGA-1.ab.svs,tumour\n"
    (tmp_path / "l.csv").write_text(text)
    table = read_labels(tmp_path / "l.csv")
    assert table.ids == ("s2", "s1", "TCGA-1.ab")
    assert table.groups == ("p1", "p1", "p2")
    assert texts(table) == ["tumour", "normal", "tumour"]
    assert (dict(table.columns), len(table.labels)) == ({}, 3)
    assert (table.faults, table.source) == ((), tmp_path / "l.csv")


@pytest.mark.parametrize("name", ["slide_id", "bag_name", "bag_id", "FILENAME", "id"])
def test_columns_that_are_known(tmp_path, name):
    # `id` is last: beside another it is the number of a row.
    path = write_labels(tmp_path / "l.csv", [("7", "a.h5", 1)], f"id,{name},label")
    if name != "id":
        assert read_labels(path).ids == ("a",)
    path = write_labels(tmp_path / "l.csv", {"a.h5": 1}, f"{name},label")
    assert read_labels(path).ids == ("a",)


@pytest.mark.parametrize("name", ["case_id", "patient", "patient_id", "PATIENT", "group"])
def test_groups_that_are_known(tmp_path, name):
    path = write_labels(tmp_path / "l.csv", [("a", 1, "007")], f"slide_id,label,{name}")
    assert read_labels(path).groups == ("007",)


def test_columns_by_config(tmp_path):
    rows = [("a", "g1", "x"), ("b", "g2", "y")]
    path = write_labels(tmp_path / "l.csv", rows, "scan,centre,grade")
    table = read_labels(path, id_column="scan", label_column="grade", group_column="centre")
    assert (table.ids, table.groups) == (("a", "b"), ("g1", "g2"))
    assert texts(table, "grade") == [["x", "y"]]
    table = read_labels(path, id_column="scan", label_column="grade")
    assert (table.groups, dict(table.columns)) == (None, {"centre": ("g1", "g2")})


def test_names_keep_their_zeros_and_whole_numbers_are_written_alike(tmp_path):
    path = write_labels(tmp_path / "l.csv", {"007": 10, "008": 2, "9": "2.0"})
    table = read_labels(path)
    assert table.ids == ("007", "008", "9")
    assert texts(table) == ["10", "2", "2"]  # however a table writes a whole number


def test_names_of_bags_that_are_numbers(tmp_path):
    """pandas writes 1020.0 for 1020 beside empty cells; 12.00 and 12 may be two slides."""
    path = write_labels(tmp_path / "l.csv", {"1020.0": 1, "12.00": 0, "12": 1, " 7.svs ": 0})
    assert read_labels(path).ids == ("1020", "12.00", "12", "7")


def test_several_labels(tmp_path):
    path = write_labels(tmp_path / "l.csv", [("a", 1, "0.0"), ("b", "", 1)], "slide_id,er,pr")
    table = read_labels(path, label_column=["pr", "er"])
    assert texts(table, "pr", "er") == [["0", "1"], ["1", ""]]  # in the order asked for
    assert (table.faults, dict(table.columns)) == ((), {})  # a missing one is the task's business
    assert texts(read_labels(path, label_column=["er"]), "er") == [["1", ""]]


def test_the_other_columns_are_kept(tmp_path):
    """As covariates, and to stand beside predictions."""
    rows = [("p1", "a", 61.5, "yes", "I"), ("p2", "b", "", "no", "IV")]
    path = write_labels(tmp_path / "l.csv", rows, "patient,slide_id,age,label,stage")
    table = read_labels(path)
    assert dict(table.columns) == {"age": ("61.5", ""), "stage": ("I", "IV")}
    rows.append(("p3", "a", 7, "no", "II"))
    path = write_labels(tmp_path / "l.csv", rows, "patient,slide_id,age,label,stage")
    table = read_labels(path, strict=False)  # without the faulty rows, as all else
    assert (table.ids, dict(table.columns)) == (("b",), {"age": ("",), "stage": ("IV",)})


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_delimiters_and_the_mark_of_excel(tmp_path, mark):
    text = "\ufeff" + mark.join(["slide_id", "label"]) + "\n" + mark.join(["a", "1"]) + "\r\n"
    for suffix in [".csv", *([".tsv"] if mark == "\t" else [])]:
        (tmp_path / f"l{suffix}").write_bytes(text.encode())
        assert read_labels(tmp_path / f"l{suffix}").ids == ("a",)


def test_parquet(tmp_path):
    columns = {"slide_id": ["a", "b"], "label": [1.0, 0.0], "patient": [5, 6]}
    parquet.write_table(pa.table(columns), tmp_path / "l.parquet")
    table = read_labels(tmp_path / "l.parquet")
    assert (texts(table), table.groups) == (["1", "0"], ("5", "6"))


def test_missing_columns_list_those_that_are_there(tmp_path):
    path = write_labels(tmp_path / "l.csv", {"a": 1}, "Slide ID,Diagnosis")
    with pytest.raises(
        ValueError,
        match=r"l\.csv: expected a column slide_id or .*got the columns Slide ID, Diagnosis: name "
        r"the right one by data\.id_column",
    ):
        read_labels(path, label_column="Diagnosis")
    with pytest.raises(ValueError, match=r"expected a column label, got .*data\.label_column"):
        read_labels(path, id_column="Slide ID")
    with pytest.raises(ValueError, match=r"expected a column centre, got .*data\.group_column"):
        read_labels(path, id_column="Slide ID", label_column="Diagnosis", group_column="centre")


def test_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"l\.csv: expected a table, found none"):
        read_labels(tmp_path / "l.csv")
    (tmp_path / "l.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"l\.xlsx: expected a table .*got \.xlsx: save it as CSV"):
        read_labels(tmp_path / "l.xlsx")
    (tmp_path / "l.csv").write_bytes(b"slide_id,label\na,\xff\xfe\n")
    with pytest.raises(ValueError, match=r"l\.csv: expected a table, got .*UTF-?8"):
        read_labels(tmp_path / "l.csv")


ROWS = [
    ("a", 1, "p"),
    ("b", 0, "p"),
    ("b.svs", 1, "p"),
    ("c", 0, "p"),
    ("c", 0, "p"),
    ("d", "", "p"),
    ("", 1, "p"),
    ("e", 3, "p"),
    ("f", 1, ""),
]


def test_all_faults_of_the_rows_together(tmp_path):
    path = write_labels(tmp_path / "l.csv", ROWS, "slide_id,label,patient")
    with pytest.raises(BagError, match="4 faults") as caught:
        read_labels(path)
    assert [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults] == [
        "row 3: expected bag 'b' once, got it in row 2 too, '0' there: remove one",
        "row 5: expected bag 'c' once, got it in row 4 too, the same label: remove one",
        "row 7: expected the name of a bag, got nothing: fill it in, or remove the row",
        "row 9: expected the patient of bag 'f', got nothing: fill it in, or remove the row",
    ]


def test_what_is_left_without_the_faulty_rows(tmp_path):
    path = write_labels(tmp_path / "l.csv", ROWS, "slide_id,label,patient")
    table = read_labels(path, strict=False)
    assert (table.ids, table.groups) == (("a", "d", "e"), ("p",) * 3)
    assert texts(table) == ["1", "", "3"]  # whether that is a label, the task says
    assert len(table.faults) == 4
    with pytest.raises(BagError):
        table.raise_if_faulty()


def test_stamp_joins_slides_and_patients(tmp_path):
    slides = [("u/s1.h5", "p2"), ("u/s2.h5", "p1"), ("s3.h5", "p2")]
    slide_table = write_labels(tmp_path / "slides.csv", slides, "FILENAME,PATIENT")
    rows = [("p1", "MSI", 60), ("p2", "MSS", 70)]
    path = write_labels(tmp_path / "clini.csv", rows, "PATIENT,status,age")
    table = read_labels(path, slide_table=slide_table, label_column="status")
    assert table.ids == ("u/s1", "u/s2", "s3")
    assert texts(table, "status") == [["MSS", "MSI", "MSS"]]
    assert table.groups == ("p2", "p1", "p2")
    assert dict(table.columns) == {"age": ("70", "60", "70")}


def test_stamp_tables_that_do_not_meet(tmp_path):
    slide_table = write_labels(
        tmp_path / "slides.csv", {"s0.h5": "p0", "s1.h5": "p1", "s2.h5": "p9"}, "FILENAME,PATIENT"
    )
    rows = [("p0", 0), ("p1", 0), ("p2", 1), ("p1", 1)]
    path = write_labels(tmp_path / "clini.csv", rows, "PATIENT,label")
    table = read_labels(path, slide_table=slide_table, strict=False)
    assert table.ids == ("s0",)  # of p1 nobody knows which row is meant
    assert [(fault.bag_id, fault.message) for fault in table.faults] == [
        ("s1", "expected patient 'p1' of s1.h5 once, got another row"),
        ("s2", "expected patient 'p9' of s2.h5 in clini.csv, found no row"),
        ("", "expected a slide of patient 'p2' in slides.csv, found none"),
    ]


def test_labels_that_the_layout_stores(tmp_path):
    for bag_id, label in (("a", 1), ("b", 0), ("c", 1)):
        write_npy(tmp_path / "features" / f"{bag_id}.npy", np.zeros((2, 2)))
        write_npy(tmp_path / "labels" / f"{bag_id}.npy", np.array([label]))
    table = stored_labels(open_reader(tmp_path))
    assert (table.ids, table.groups) == (("a", "b", "c"), None)
    assert texts(table) == ["1", "0", "1"]
    (tmp_path / "labels/b.npy").unlink()
    write_npy(tmp_path / "labels/c.npy", np.array([5, 6]))
    table = stored_labels(open_reader(tmp_path), strict=False)
    assert (table.ids, texts(table)) == (("a", "b"), ["1", ""])  # a missing one is the task's
    assert [fault.bag_id for fault in table.faults] == ["c"]
    with pytest.raises(BagError, match=r"labels/c\.npy: expected"):
        stored_labels(open_reader(tmp_path))


def test_multilabel_that_the_layout_stores(tmp_path):
    for bag_id, label in (("a", [1, 0, 0]), ("b", [1, 1, 0])):
        write_npy(tmp_path / "features" / f"{bag_id}.npy", np.zeros((2, 2)))
        write_npy(tmp_path / "labels" / f"{bag_id}.npy", np.array(label))
    table = stored_labels(open_reader(tmp_path))
    assert texts(table, "0", "1", "2") == [["1", "1"], ["0", "1"], ["0", "0"]]
    write_npy(tmp_path / "labels/c.npy", np.array([1, 0]))
    write_npy(tmp_path / "features/c.npy", np.zeros((2, 2)))
    write_npy(tmp_path / "features/d.npy", np.zeros((2, 2)))  # without labels
    with pytest.raises(
        BagError, match=r"1 fault.*\n.*expected 3 labels of bag 'c', got 2: mend it"
    ):
        stored_labels(open_reader(tmp_path))
    table = stored_labels(open_reader(tmp_path), strict=False)
    assert table.ids == ("a", "b", "d")
    assert texts(table, "0", "1", "2") == [["1", "1", ""], ["0", "1", ""], ["0", "0", ""]]


def test_most_bags_say_how_many_labels_a_layout_stores(tmp_path):
    for bag_id, label in (("a", 1), ("b", [1, 0, 0]), ("c", 0)):
        write_npy(tmp_path / "features" / f"{bag_id}.npy", np.zeros((2, 2)))
        write_npy(tmp_path / "labels" / f"{bag_id}.npy", np.atleast_1d(label))
    table = stored_labels(open_reader(tmp_path), strict=False)
    assert (table.ids, texts(table)) == (("a", "c"), ["1", "0"])
    (fault,) = table.faults
    assert fault.message == "bag 'b': expected 1 labels of bag 'b', got 3"


def test_labels_of_a_table_of_instances(tmp_path):
    rows = [("m1", "i", 1, 0.5), ("m2", "i", 0, 0.5), ("m1", "j", 1, 0.5)]
    path = write_labels(tmp_path / "t.csv", rows, "bag_id,name,label,f")
    table = stored_labels(open_reader(path))
    assert (table.ids, texts(table)) == (("m1", "m2"), ["1", "0"])


def test_no_labels_stored(tmp_path):
    write_npy(tmp_path / "a.npy", np.zeros((2, 2)))
    assert stored_labels(open_reader(tmp_path)) is None
