import re

import numpy as np
import pytest
import torch

from bag_folders import features, grid, plain_folder, truncate, write_h5, write_labels, write_npy
from milforge.data.faults import BagError
from milforge.data.features.inspection import inspect_folder
from milforge.data.features.label_table import read_labels
from milforge.data.features.readers import open_reader
from milforge.data.features.readers.arrays import array_file


def found(root, labels=None, **options):
    return inspect_folder(open_reader(root), labels, **options)


def test_a_folder_without_fault(tmp_path):
    root = plain_folder(tmp_path / "bags", [30, 12, 25])
    labels = read_labels(write_labels(tmp_path / "l.csv", {"b0": 0, "b1": 1, "b2": 1}))
    steps = []
    inspection = found(root, labels, deep=True, progress=lambda *step: steps.append(step))
    assert inspection.faults == ()
    assert inspection.sizes().tolist() == [30, 12, 25]
    assert inspection.sizes().dtype == np.int64
    assert inspection.usable_ids == ("b0", "b1", "b2")
    assert inspection.stride == 256
    assert steps == [(1, 3), (2, 3), (3, 3)]
    inspection.raise_if_faulty()


class Innocent:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


def faulty_folder(root):
    """A bag for each fault, and five without."""

    def write(name, x, coords=None):
        coords = grid(len(x)) if coords is None else coords
        return write_h5(root / name, {"features": x, "coords": coords})

    for number in range(5):
        write(f"good{number}.h5", features(20))
    truncate(write("truncated.h5", features(500)), 0.6)
    (root / "nothing.h5").write_bytes(b"")
    (root / "text.h5").write_text("no HDF5")
    write_h5(root / "key.h5", {"embeddings": features(20), "coords": grid(20)})
    write("empty.h5", np.zeros((0, 4), np.float16))
    write("width.h5", features(20, 5))
    write("dtype.h5", features(20, dtype=np.float32))
    write("length.h5", features(20), grid(19))
    write("axes.h5", features(20), np.zeros((20, 5)))
    write_h5(root / "nocoords.h5", {"features": features(20)})
    write("flat.h5", features(20)[0], grid(20))
    write_h5(root / "words.h5", {"features": np.array([[b"a"]]), "coords": grid(1)})
    write("twice.h5", features(20))
    write_npy(root / "twice.npy", features(20))
    torch.save(Innocent(), root / "code.pt")
    write("orphan.h5", features(20))
    write_h5(
        root / "labels.h5",
        {"features": features(20), "coords": grid(20), "inst_label": np.zeros(7)},
    )
    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus", -np.inf)):
        x = features(20)
        x[13, 2] = value
        write(f"{name}.h5", x)
    coords = grid(20).astype(float)
    coords[3] = np.nan
    write("nancoords.h5", features(20), coords)
    write_h5(
        root / "instances.h5",
        {"features": features(20), "coords": grid(20), "inst_label": np.full(20, 4)},
    )
    return root


MESSAGES = {
    "truncated": r"truncated\.h5: expected a whole \.h5 file, got a truncated .*: write or copy",
    "nothing": r"nothing\.h5: expected arrays, got a file of 0 bytes: write",
    "text": r"text\.h5: expected a whole \.h5 file, got .*: write or copy",
    "key": r"key\.h5: expected the key features or feats, got the keys coords, embeddings: name",
    "empty": r"empty\.h5: expected at least one instance, got features of \(0, 4\): .*remove",
    "width": r"width\.h5: expected 4 features as in \d+ bags, got 5 features: .*same encoder",
    "dtype": r"dtype\.h5: expected the dtype float16 as in \d+ bags, got the dtype float32: conv",
    "length": r"length\.h5: expected 20 coords, one for each instance of the features, got 19: wri",
    "axes": r"axes\.h5: expected coords of shape \(N, 2\) or \(N, 3\), got \(20, 5\): write",
    "nocoords": r"nocoords\.h5: expected coords with 2 axes as in \d+ bags, got no coords: write",
    "flat": r"flat\.h5: expected features of shape \(N, D\), numbers, got shape \(4,\) of float16:",
    "words": r"words\.h5: expected features of shape \(N, D\), numbers, got shape \(1, 1\) of ",
    "twice": r"twice\.h5: expected one file of bag 'twice', found .*twice\.npy too: remove all but",
    "code": r"code\.pt: expected tensors alone, got code .*not run: save it as torch\.save",
    "labels": r"labels\.h5: expected 20 instance labels, .* got shape \(7,\): write",
    "orphan": r"bags: expected a label of bag 'orphan' in .*l\.csv, found none: add a row, or remo",
    "missing": r"l\.csv: expected a file of bag 'missing' in .*bags, found none: write its feat",
    "good0": r"l\.csv: row \d+: expected bag 'good0' once, got it in row 1 too, the same label: r",
    "good1": r"l\.csv: row \d+: expected bag 'good1' once, got it in row \d+ too, '0' there: rem",
}
DEEP = {
    "nan": r"nan\.h5: expected finite features, got nan in row 13 and such values in 1 of 20 inst",
    "inf": r"inf\.h5: expected finite features, got inf in row 13 .*: extract the bag again",
    "minus": r"minus\.h5: expected finite features, got -inf in row 13",
    "nancoords": r"nancoords\.h5: expected finite coords, got nan in row 3 and",
    "instances": r"instances\.h5: expected instance labels 0, 1 or -1 \(unknown\), got 4: name ",
}


@pytest.mark.parametrize("deep", [False, True])
def test_all_faults_are_found_together(tmp_path, deep):
    root = faulty_folder(tmp_path / "bags")
    ids = open_reader(root).ids
    rows = [(bag_id, 0) for bag_id in ids if bag_id != "orphan"]
    rows = [("good0", 0), *(row for row in rows if row[0] != "good0")]
    rows += [("missing", 1), ("good0", 0), ("good1", 7)]
    labels = read_labels(write_labels(tmp_path / "l.csv", rows), strict=False)
    inspection = found(root, labels, deep=deep)
    expected = MESSAGES | (DEEP if deep else {})
    assert [fault.bag_id for fault in inspection.faults] == sorted(expected)
    for fault in inspection.faults:
        assert "\n" not in str(fault)
        assert re.search(expected[fault.bag_id], str(fault)), str(fault)
    good = {"good2", "good3", "good4"} | (set() if deep else set(DEEP))
    assert set(inspection.usable_ids) == good
    assert inspection.faulty_ids == tuple(sorted(expected))
    with pytest.raises(BagError, match=rf"bags: {len(expected)} faults\n") as caught:
        inspection.raise_if_faulty()
    lines = str(caught.value).splitlines()
    hidden = len(expected) - 20
    assert len(lines) == 1 + min(20, len(expected)) + (hidden > 0)
    assert hidden <= 0 or lines[-1] == f"  and {hidden} more"
    assert caught.value.faults == inspection.faults


def test_both_files_of_a_bag_are_told(tmp_path):
    for name in ("one", "two"):
        for bag_id in ("a", "b"):
            write_h5(tmp_path / name / f"{bag_id}.h5", {"features": features(5)})
        (tmp_path / name / "b.h5").write_bytes(b"")
    inspection = inspect_folder(open_reader(tmp_path, streams=["one", "two"]))
    assert [fault.file.parent.name for fault in inspection.faults] == ["one", "two"]
    assert inspection.faulty_ids == ("b",)


def test_streams_that_differ_are_named(tmp_path):
    for number in range(3):
        for name in ("one", "two"):
            width = 5 if (number, name) == (2, "two") else 4
            write_h5(tmp_path / name / f"b{number}.h5", {"features": features(6, width)})
    (fault,) = inspect_folder(open_reader(tmp_path, streams=["one", "two"])).faults
    assert str(fault).startswith(f"{tmp_path}/two/b2.h5: stream two: expected 4 features as in 2")


def test_permissions(tmp_path, monkeypatch):
    """The superuser may read anything, so the system's refusal is put in its mouth."""
    plain_folder(tmp_path, [3, 4, 5])
    refused = tmp_path / "b1.h5"
    before = type(tmp_path).open

    def open_file(self, *arguments, **options):
        if self == refused:
            raise PermissionError(13, "Permission denied", str(self))
        return before(self, *arguments, **options)

    refused.write_bytes(b"not to be read")
    monkeypatch.setattr(type(tmp_path), "open", open_file)
    (fault,) = found(tmp_path).faults
    assert str(fault).startswith(f"{refused}: expected a file that may be read, got no permission")
    assert "chmod u+r" in fault.remedy


def test_coords_all_at_one_place_have_no_stride(tmp_path):
    write_h5(tmp_path / "a.h5", {"features": features(3), "coords": np.ones((3, 2))})
    inspection = found(tmp_path)
    assert (inspection.faults, inspection.stride) == ((), None)


def test_of_bags_of_one_size_the_ends_are_read(tmp_path, monkeypatch):
    plain_folder(tmp_path, [9] * 5)
    read = []
    load = array_file.StoredArray.read_features

    def spy(self, rows=None):
        read.append(None if rows is None else rows.tolist())
        return load(self, rows)

    monkeypatch.setattr(array_file.StoredArray, "read_features", spy)
    assert inspect_folder(open_reader(tmp_path)).same == ()
    assert read == [[0, 8]] * 5


def test_headers_alone_are_read(tmp_path, monkeypatch):
    """Opening and inspecting many files reads no features, where they differ in size."""
    plain_folder(tmp_path, range(3, 303))
    features_read = []
    load = array_file.StoredArray._load

    def spy(self, rows=None):
        features_read.append(self.key)
        return load(self, rows)

    monkeypatch.setattr(array_file.StoredArray, "_load", spy)
    reader = open_reader(tmp_path)
    assert features_read == []
    inspection = inspect_folder(reader)
    assert len(inspection.headers) == 300
    assert "features" not in features_read  # the coords of a few, for the stride
    assert len(features_read) <= 8


def test_faults_without_a_bag_that_can_be_opened(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"")
    inspection = found(tmp_path, deep=True)
    assert len(inspection.faults) == 1
    assert (inspection.usable_ids, len(inspection.sizes()), inspection.stride) == ((), 0, None)
