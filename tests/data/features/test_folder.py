"""A folder of features as a table of bags."""

import logging

import h5py
import numpy as np
import pytest
import torch

from bag_folders import (
    features,
    grid,
    labelled_bags,
    truncate,
    write_h5,
    write_labels,
    write_npy,
)
from milforge.data import BagError, feature_bags, open_reader
from milforge.data.features.folder import log_progress
from milforge.data.features.readers.arrays import places
from milforge.data.wrappers.graph_bags import GraphBags
from milforge.graph import AdjacencyBuilder


def names(faults):
    return [fault.bag_id for fault in faults]


@pytest.fixture
def folder(tmp_path):
    """Four bags of 30, 12, 25 and 7 instances, with a table of more than labels."""
    for number, size in enumerate((30, 12, 25, 7)):
        arrays = {"features": features(size, seed=number), "coords": grid(size)}
        write_h5(tmp_path / f"bags/b{number}.h5", arrays)
    rows = [("p1", "b2.svs", "yes", 61, "I"), ("p1", "b0", "no", 50, "II")]
    rows += [("p2", "b3.h5", "no", "", "I"), ("p3", "b1", "yes", 44, "IV")]
    write_labels(tmp_path / "l.csv", rows, "patient,slide_id,label,age,stage")
    return tmp_path


def make(folder, **options):
    options = {"labels": str(folder / "l.csv"), **options}
    return feature_bags(str(folder / "bags"), **options)


def test_a_folder_and_its_table(folder):
    table = make(folder)
    assert table.ids == ("b2", "b0", "b3", "b1")  # in the order of the table
    assert table.labels.columns["label"].tolist() == ["yes", "no", "no", "yes"]
    assert table.groups == ("p1", "p1", "p2", "p3")
    assert dict(table.columns) == {
        "age": ("61", "50", "", "44"),
        "stage": ("I", "II", "I", "IV"),
    }
    assert (table.covariates, table.training_bags, table.faults) == ((), None, ())
    assert (table.on_error, table.check, table.source) == ("raise", True, folder / "l.csv")
    assert table.bags.sizes.tolist() == [25, 30, 7, 12]
    bag = table.bags[0]
    assert (bag.bag_id, bag.y, bag.covariates) == ("b2", None, None)
    np.testing.assert_array_equal(bag.x.numpy(), features(25, seed=2))


def test_columns_by_config(folder):
    columns = {"label_column": ["stage", "label"], "group_column": "age"}
    table = make(folder, id_column="slide_id", **columns)
    assert table.labels.names == ("stage", "label")
    assert set(table.columns) == {"patient"}
    assert table.faults[0].message.endswith("expected the patient of bag 'b3', got nothing")


def test_covariates_are_columns_of_the_table(folder):
    assert make(folder, covariates=["age", "stage"]).covariates == ("age", "stage")
    with pytest.raises(
        ValueError, match=r"data\.covariates among the columns age, stage, got sex$"
    ):
        make(folder, covariates=["age", "sex"])
    with pytest.raises(ValueError, match=r"data\.covariates among the columns \(none\), got age"):
        make(folder, labels=None, covariates=["age"])


def test_only_training_bags_give_fewer_instances(folder):
    table = make(folder, max_instances_per_bag=10, seed=3)
    assert table.bags.sizes.tolist() == [25, 30, 7, 12]
    assert table.training_bags.sizes.tolist() == [10, 10, 7, 10]
    assert table.training_bags.ids == table.bags.ids
    drawn = table.training_bags[0].x
    assert torch.equal(make(folder, max_instances_per_bag=10, seed=3).training_bags[0].x, drawn)
    assert not torch.equal(make(folder, max_instances_per_bag=10, seed=4).training_bags[0].x, drawn)
    with pytest.raises(ValueError, match=r"data\.max_instances_per_bag of at least 1"):
        make(folder, max_instances_per_bag=0)


def test_bags_alone_are_to_be_predicted(folder):
    table = make(folder, labels=None)
    assert table.ids == ("b0", "b1", "b2", "b3")
    assert (table.labels, table.groups, dict(table.columns)) == (None, None, {})
    assert table.source == folder / "bags"
    assert len(table.bags) == 4


def test_labels_that_the_layout_stores(tmp_path):
    expected = labelled_bags(tmp_path / "bags", layout="torchmil")
    table = feature_bags(str(tmp_path / "bags"))
    assert table.ids == tuple(sorted(expected))
    stored = {"0": "no", "1": "yes"}
    got = [stored[text] for text in table.labels.columns["label"]]
    assert got == [expected[bag] for bag in table.ids]
    assert table.groups is None
    assert table.bags[2].y_inst is not None


def test_a_table_of_instances_and_its_columns(tmp_path):
    rows = [("m1", "p", 1, 0.5, 2.0), ("m2", "q", 0, 0.5, 3.0), ("m1", "p", 1, 0.25, 4.0)]
    path = write_labels(tmp_path / "t.csv", rows, "name,who,class,f1,f2")
    columns = {"id_column": "name", "label_column": "class", "group_column": "who"}
    table = feature_bags(str(path), **columns)
    assert table.ids == ("m1", "m2")
    assert table.labels.columns["label"].tolist() == ["1", "0"]
    assert table.groups == ("p", "q")
    assert table.bags[0].x.tolist() == [[0.5, 2.0], [0.25, 4.0]]


def test_stamp_has_a_table_of_slides(tmp_path):
    labelled_bags(tmp_path / "bags", count=4, layout="stamp")
    rows = [("p0", "MSI", 60), ("p1", "MSS", 70)]
    write_labels(tmp_path / "clini.csv", rows, "PATIENT,isMSIH,AGE")
    slides = [(f"s{n:02d}.h5", f"p{n // 2}") for n in range(4)]
    write_labels(tmp_path / "slides.csv", slides, "FILENAME,PATIENT")
    table = feature_bags(
        str(tmp_path / "bags"),
        str(tmp_path / "clini.csv"),
        slide_table=str(tmp_path / "slides.csv"),
        label_column="isMSIH",
        covariates=["AGE"],
    )
    assert table.labels.columns["isMSIH"].tolist() == ["MSI", "MSI", "MSS", "MSS"]
    assert table.groups == ("p0", "p0", "p1", "p1")
    assert dict(table.columns) == {"AGE": ("60", "60", "70", "70")}


def test_streams(folder):
    for number, size in enumerate((30, 12, 25, 7)):
        arrays = {"features": features(size, 6, seed=number), "coords": grid(size)}
        write_h5(folder / f"other/b{number}.h5", arrays)
    streams = {"one": "bags", "two": "other"}
    table = feature_bags(str(folder), str(folder / "l.csv"), streams=streams)
    assert table.bags[0].instance_shape == {"one": (4,), "two": (6,)}


def damage(folder):
    """A bag for each kind of fault: cut off, NaN, without a row, without a file."""
    truncate(folder / "bags/b0.h5")
    x = features(12, seed=1)
    x[3, 1] = np.nan
    write_h5(folder / "bags/b1.h5", {"features": x, "coords": grid(12)})
    write_h5(folder / "bags/orphan.h5", {"features": features(5), "coords": grid(5)})
    with (folder / "l.csv").open("a") as file:
        file.write("p9,missing,no,1,I\n")


def test_faults_that_headers_tell_are_told_with_the_table(folder):
    damage(folder)
    table = make(folder)
    assert names(table.faults) == ["b0", "missing", "orphan"]
    assert (table.on_error, table.check) == ("raise", True)  # which finds b1 before training
    # A split is drawn with all rows, so the faulty bags keep their place until it is.
    assert table.ids == ("b2", "b0", "b3", "b1", "missing")
    assert table.bags.sizes.tolist() == [25, 0, 7, 12, 0]
    assert len(table.labels) == 5
    with pytest.raises(BagError, match=r"b0\.h5"):
        table.bags[1]


@pytest.mark.parametrize("odd", [np.zeros((7, 4)), np.zeros((6, 2)), np.zeros((7, 2), "S3")])
def test_odd_coords_are_left_out_until_something_needs_them(folder, caplog, odd):
    path = folder / "bags" / "b3.h5"
    with h5py.File(path, "a") as file:
        del file["coords"]
        file["coords"] = odd
    table = make(folder)
    assert not table.faults
    assert table.bags[2].coords is None
    assert f"no coords are read, because those of 1 bags are odd: {path}: expected" in caplog.text
    assert "data.coords_key=null" in caplog.text
    with pytest.raises(ValueError, match="'b2': expected coords for an adjacency by grid, got non"):
        GraphBags(table.bags, AdjacencyBuilder("grid")).prepare()
    # Where a bag is to be skipped for it, or more is wrong, it is a fault as any other.
    assert names(make(folder, on_error="skip").faults) == ["b3"]
    (folder / "bags" / "b0.h5").write_bytes(b"")
    assert names(make(folder).faults) == ["b0", "b3"]


def test_what_is_skipped_is_found_by_reading_everything(folder):
    damage(folder)
    table = make(folder, on_error="skip")
    assert names(table.faults) == ["b0", "b1", "missing", "orphan"]
    assert (table.on_error, table.check) == ("skip", False)
    assert table.ids == ("b2", "b0", "b3", "b1", "missing")
    assert table.bags[0].bag_id == "b2"
    alone = make(folder, labels=None, on_error="skip")
    assert names(alone.faults) == ["b0", "b1"]
    assert alone.ids == ("b0", "b1", "b2", "b3", "orphan")


def test_faults_of_the_rows_are_told_too(folder):
    with (folder / "l.csv").open("a") as file:
        file.write("p9,b2,no,1,I\n")
    table = make(folder, on_error="skip")
    assert table.ids == ("b0", "b3", "b1")
    assert "expected bag 'b2' once, got it in row 1 too, 'yes' there" in str(table.faults[0])
    assert names(table.faults) == ["b2"]


def test_where_every_row_is_faulty_nothing_is_known(folder):
    write_labels(folder / "l.csv", [("b0", 1), ("b0", 1)])
    table = make(folder, on_error="skip")
    assert (table.ids, table.labels, len(table.bags)) == ((), None, 0)
    assert names(table.faults) == ["b0", "b1", "b2", "b3"]


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({}, True),
        ({"check": "headers"}, False),
        ({"on_error": "skip"}, False),
        ({"check": "headers", "on_error": "skip"}, False),
    ],
)
def test_bags_are_read_beforehand_unless_that_was_done_or_is_not_wanted(folder, options, check):
    assert make(folder, **options).check is check


def test_a_cache_gives_the_same(folder, monkeypatch):
    monkeypatch.setattr(places, "_SETTLED_AFTER", -1.0)  # files count as old
    table = make(folder, cache=str(folder / "cache"))
    for cached, plain in zip(table.bags, make(folder).bags, strict=True):
        assert torch.equal(cached.x, plain.x)
        assert torch.equal(cached.coords, plain.coords)
    assert any((folder / "cache").rglob("*"))


def test_what_changes_nothing_is_declared():
    assert feature_bags.changes_nothing == ("cache", "check")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, r"data\.on_error to be raise or skip, got 'ignore'"),
        ({"check": "deep"}, r"data\.check to be full or headers, got 'deep'"),
    ],
)
def test_wrong_options_are_refused_before_any_file_is_looked_at(options, message):
    with pytest.raises(ValueError, match=message):
        feature_bags("nowhere", **options)


def test_what_there_is_not(folder):
    with pytest.raises(OSError, match="nowhere"):
        feature_bags(str(folder / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"none\.csv: expected a table, found none"):
        make(folder, labels=str(folder / "none.csv"))
    with pytest.raises(ValueError, match=r"a column grade, got .*data\.label_column"):
        make(folder, label_column="grade")


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert feature_bags("~/bags", "~/l.csv").ids == ("b2", "b0", "b3", "b1")


def test_plain_arrays_and_the_key_of_the_features(tmp_path):
    write_npy(tmp_path / "npy/a.npy", features(3))
    assert feature_bags(str(tmp_path / "npy")).bags[0].x.shape == (3, 4)
    arrays = {"embeddings": features(3), "places": grid(3), "kind": np.array([0, 2, 2])}
    write_h5(tmp_path / "h5/a.h5", arrays)
    keys = {"features_key": "embeddings", "coords_key": "places", "inst_label_key": "kind"}
    bag = feature_bags(str(tmp_path / "h5"), positive_instance_label=2, **keys).bags[0]
    assert (bag.coords.tolist(), bag.y_inst.tolist()) == (grid(3).tolist(), [0, 1, 1])
    assert open_reader(tmp_path / "h5", features_key="embeddings").ids == ("a",)


def test_progress_is_told_now_and_then(caplog):
    with caplog.at_level(logging.INFO):
        for done in range(1, 1001):
            log_progress(done, 1200)
    assert caplog.messages == ["looked at 500 of 1200 bags", "looked at 1000 of 1200 bags"]


def test_the_table_of_labels_is_never_the_features(tmp_path):
    path = write_labels(tmp_path / "labels.csv", [("a", 1, 61.5)], "slide_id,label,age")
    with pytest.raises(
        ValueError, match="expected a folder of features, found none, and the table"
    ):
        feature_bags(str(tmp_path), labels=str(path))


def test_a_table_of_instances_says_which_columns_it_takes(tmp_path, caplog):
    rows = [(n // 2, n // 2 % 2, n**0.5, "w", n) for n in range(8)]
    path = write_labels(tmp_path / "t.csv", rows, "bag_id,label,f0,word,instance")
    with caplog.at_level(logging.INFO):
        assert feature_bags(str(path)).feature_names == ("f0", "instance")
    levels = {record.levelname: record.message for record in caplog.records}
    assert levels["INFO"] == f"{path}: left out: 1 column: word (text)"
    assert "may be no features: 1 column: instance (it counts rows)" in levels["WARNING"]
    assert feature_bags(str(path), exclude_columns=["instance"]).feature_names == ("f0",)
