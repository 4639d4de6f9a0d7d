"""The two Parquet files of predictions."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from milforge.callbacks import BagRecord, PredictionWriter


def make_record(name, size, probabilities, y=None, **parts):
    known = dict.fromkeys(("scores", "weights", "y_inst", "coords"))
    return BagRecord(
        bag_id=name,
        y=None if y is None else torch.tensor(y),
        probabilities=torch.tensor(probabilities),
        size=size,
        **{**known, **parts},
    )


def write(folder, records, class_names=("no", "yes")):
    trainer = SimpleNamespace(loggers=[])
    module = SimpleNamespace(class_names=class_names)
    PredictionWriter(folder).finish(trainer, module, records, "test")
    assert {path.name for path in folder.iterdir()} == {"bags.parquet", "instances.parquet"}
    return pq.read_table(folder / "bags.parquet"), pq.read_table(folder / "instances.parquet")


def attention(*scores):
    scores = torch.tensor(scores)
    return {"scores": scores, "weights": scores.softmax(0)}


def test_a_binary_task(tmp_path):
    records = [
        make_record("a", 2, 0.25, 0, y_inst=torch.tensor([0, -1]), **attention(1.0, 2.0)),
        make_record("b", 1, 0.75, 1, y_inst=torch.tensor([1]), **attention(-3.0)),
    ]
    bags, instances = write(tmp_path, records)
    assert bags.to_pydict() == {
        "bag_id": ["a", "b"],
        "label": [0, 1],
        "probability_0": [0.75, 0.25],
        "probability_1": [0.25, 0.75],
    }
    assert bags.schema.field("label").type == pa.int64()
    assert bags.schema.metadata[b"class_names"].decode().split("\n") == ["no", "yes"]
    values = instances.to_pydict()
    assert values["bag_id"] == ["a", "a", "b"]
    assert values["index"] == [0, 1, 0]
    assert values["score"] == [1.0, 2.0, -3.0]
    np.testing.assert_allclose(values["weight"], [0.26894143, 0.7310586, 1.0], rtol=1e-6)
    assert values["label"] == [0, None, 1]


def test_a_multiclass_task(tmp_path):
    records = [make_record("a", 1, [0.2, 0.3, 0.5], 2), make_record("b", 1, [0.6, 0.2, 0.2], 0)]
    bags, _ = write(tmp_path, records, ("x", "y", "z"))
    assert bags.column_names == ["bag_id", "label", *(f"probability_{c}" for c in range(3))]
    assert bags["label"].to_pylist() == [2, 0]
    np.testing.assert_allclose(bags["probability_2"], [0.5, 0.2], rtol=1e-6)


def test_a_multilabel_task_with_a_bag_without_label(tmp_path):
    records = [make_record("a", 1, [0.2, 0.9], [0, 1]), make_record("b", 1, [0.6, 0.2])]
    bags, _ = write(tmp_path, records, ("x", "y"))
    assert bags["label_0"].to_pylist() == [0, None]
    assert bags["label_1"].to_pylist() == [1, None]
    assert bags.column_names == ["bag_id", "label_0", "label_1", "probability_0", "probability_1"]


def test_bags_of_which_nothing_is_known(tmp_path):
    records = [make_record("a", 2, 0.5), make_record("b", 3, 0.1)]
    bags, instances = write(tmp_path, records)
    assert bags["label"].to_pylist() == [None, None]
    assert bags.schema.field("label").type == pa.int64()
    assert instances.column_names == ["bag_id", "index", "score", "weight", "label"]
    for name in ("score", "weight", "label"):
        assert instances[name].null_count == 5
    assert instances.schema.field("weight").type == pa.float32()


@pytest.mark.parametrize("axes", [2, 3])
def test_coords_have_a_column_each(tmp_path, axes):
    coords = torch.arange(3 * axes).reshape(3, axes)
    records = [
        make_record("a", 1, 0.5, coords=coords[:1]),
        make_record("b", 2, 0.5, coords=coords[1:]),
    ]
    _, instances = write(tmp_path, records)
    for axis in range(axes):
        assert instances[f"coord_{axis}"].to_pylist() == coords[:, axis].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_coords_that_some_bags_lack_are_null(tmp_path, dtype):
    coords = torch.arange(6, dtype=dtype).reshape(2, 3)
    records = [
        make_record("a", 1, 0.5),
        make_record("b", 2, 0.5, coords=coords[:, :2]),
        make_record("c", 2, 0.5, coords=coords, **attention(1.0, 2.0)),
        make_record("d", 0, 0.5, coords=coords[:0]),
    ]
    _, instances = write(tmp_path, records)
    assert instances["bag_id"].to_pylist() == ["a", "b", "b", "c", "c"]
    assert instances["coord_0"].to_pylist() == [None, 0, 3, 0, 3]
    assert instances["coord_1"].to_pylist() == [None, 1, 4, 1, 4]
    assert instances["coord_2"].to_pylist() == [None, None, None, 2, 5]
    _, whole = write(tmp_path, records[2:])
    for axis in range(3):
        name = f"coord_{axis}"
        assert instances.schema.field(name).type == whole.schema.field(name).type
        assert whole[name].null_count == 0


def test_probabilities_that_are_not_numbers_are_kept(tmp_path):
    bags, _ = write(tmp_path, [make_record("a", 1, float("nan"), 1, **attention(float("nan")))])
    assert np.isnan(bags["probability_1"].to_pylist()).all()


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    write(tmp_path, [make_record("a", 1, 0.5)])
    before = (tmp_path / "bags.parquet").read_bytes()

    def broken(table, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, [make_record("b", 1, 0.5)])
    assert (tmp_path / "bags.parquet").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
