"""The two Parquet files of predictions."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger

from milforge.callbacks import BagRecord, PredictionWriter
from milforge.data.labels import Labels
from milforge.report.analysis.measures import measures, values_of
from milforge.report.read_predictions import read_predictions, read_targets
from milforge.tasks import Binary, Multi, Multiclass, Multilabel, Ordinal, Regression
from milforge.training.data.labelled_parts import BagInfo

KNOWN = ("bag_id", "part", "patient", "size", "order")


def known(task, *names):
    """A task that has seen classes, or columns, of these names."""
    state = {"kind": task.kind, "class_names": names, "weights": None, "columns": names}
    return task.from_state(state)


BINARY = known(Binary(), "no", "yes")


def make_record(name, size, p, y=None, part="test", logits=(0.0,), **parts):
    """With `p` as the probability, or, of a mapping, the columns."""
    if isinstance(p, float):  # of the positive one of two classes
        p = [1 - p, p]
    columns = p if isinstance(p, dict) else {"probability": p}
    tensors = {key: torch.tensor(values) for key, values in columns.items()}
    known = dict.fromkeys(("scores", "weights", "y_inst", "coords"))
    return BagRecord(
        bag_id=name,
        y=None if y is None else torch.tensor(y),
        columns={**tensors, "logits": torch.tensor(logits)},
        size=size,
        part=part,
        **{**known, **parts},
    )


def write(folder, records, task=BINARY, writer=None, info=None, loggers=()):
    data = None if info is None else SimpleNamespace(info=info)
    trainer = SimpleNamespace(loggers=list(loggers), datamodule=data)
    module = SimpleNamespace(task=task)
    (writer or PredictionWriter(folder)).finish(trainer, module, records, "test")
    assert {path.name for path in folder.iterdir()} == {"bags.parquet", "instances.parquet"}
    return pq.read_table(folder / "bags.parquet"), pq.read_table(folder / "instances.parquet")


def attention(*scores):
    scores = torch.tensor(scores)
    return {"scores": scores, "weights": scores.softmax(0)}


def test_instances_are_neither_written_nor_held_where_they_are_not_wanted(tmp_path):
    writer = PredictionWriter(tmp_path, instances=False)
    record = make_record("a", 2, 0.25, 0, **attention(1.0, 2.0))
    assert not writer.keep_instances(None, record)
    assert PredictionWriter(tmp_path).keep_instances(None, record)
    trainer = SimpleNamespace(loggers=[], datamodule=None)
    writer.finish(trainer, SimpleNamespace(task=BINARY), [record], "test")
    assert [path.name for path in tmp_path.iterdir()] == ["bags.parquet"]


def test_a_binary_task(tmp_path):
    records = [
        make_record(
            "a", 2, 0.25, 0, logits=[-1.5], y_inst=torch.tensor([0, -1]), **attention(1.0, 2.0)
        ),
        make_record("b", 1, 0.75, 1, logits=[1.5], y_inst=torch.tensor([1]), **attention(-3.0)),
    ]
    bags, instances = write(tmp_path, records)
    assert bags.to_pydict() == {
        "bag_id": ["a", "b"],
        "part": ["test", "test"],
        "patient": [None, None],
        "size": [2, 1],
        "order": [0, 1],
        "label": [0, 1],
        "probability_0": [0.75, 0.25],
        "probability_1": [0.25, 0.75],
        "logit_0": [-1.5, 1.5],
    }
    assert bags.schema.field("label").type == pa.int64()
    assert bags.schema.field("patient").type == pa.string()
    assert bags.schema.metadata[b"class_names"].decode().split("\n") == ["no", "yes"]
    assert bags.schema.metadata[b"task"] == b"Binary"
    values = instances.to_pydict()
    assert values["bag_id"] == ["a", "a", "b"]
    assert values["part"] == ["test"] * 3
    assert values["index"] == [0, 1, 0]
    assert values["score"] == [1.0, 2.0, -3.0]
    np.testing.assert_allclose(values["weight"], [0.26894143, 0.7310586, 1.0], rtol=1e-6)
    assert values["label"] == [0, None, 1]


def test_a_multiclass_task(tmp_path):
    records = [
        make_record("a", 1, [0.2, 0.3, 0.5], 2, logits=[1.0, 2.0, 3.0]),
        make_record("b", 1, [0.6, 0.2, 0.2], 0, logits=[4.0, 5.0, 6.0]),
    ]
    bags, _ = write(tmp_path, records, known(Multiclass(), "x", "y", "z"))
    each = [f"{name}_{c}" for name in ("probability", "logit") for c in range(3)]
    assert bags.column_names == [*KNOWN, "label", *each]
    assert bags["label"].to_pylist() == [2, 0]
    np.testing.assert_allclose(bags["probability_2"], [0.5, 0.2], rtol=1e-6)
    assert bags["logit_1"].to_pylist() == [2, 5]


def test_a_multilabel_task_with_a_bag_without_label(tmp_path):
    logits = [0.0, 0.0]
    records = [
        make_record("b", 1, [0.6, 0.2], logits=logits),
        make_record("a", 1, [0.2, 0.9], [0, 1], logits=logits),
    ]
    bags, _ = write(tmp_path, records, known(Multilabel(), "x", "y"))
    assert bags["label_0"].to_pylist() == [None, 0]
    assert bags["label_1"].to_pylist() == [None, 1]
    each = [f"{name}_{c}" for name in ("label", "probability", "logit") for c in range(2)]
    assert bags.column_names == [*KNOWN, *each]


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regression(tmp_path, outputs):
    """A single number has columns without a number; a missing one is null."""
    if outputs == 1:
        y, p, logits = [1.5, None, 4.0], [2.0, 3.0, 5.0], [[0.1], [0.2], [0.3]]
        columns = ["label", "prediction", "logit_0"]
    else:
        y, p, logits = [[1.5, 2.5], None, [4.0, float("nan")]], [[2.0, 1.0]] * 3, [[0.1, 0.2]] * 3
        columns = [f"{name}_{o}" for name in ("label", "prediction", "logit") for o in range(2)]
    records = [
        make_record(str(i), 1, {"prediction": p[i]}, y[i], logits=logits[i]) for i in range(3)
    ]
    bags, _ = write(tmp_path, records, known(Regression(), *("age", "score")[:outputs]))
    assert bags.column_names == [*KNOWN, *columns]
    assert bags[columns[0]].to_pylist() == [1.5, None, 4.0]
    if outputs == 2:
        assert bags["label_1"].to_pylist() == [2.5, None, None]
    assert bags.schema.field(columns[0]).type == pa.float32()
    assert bags.schema.metadata[b"task"] == b"Regression"


def test_bags_of_which_a_network_is_sure_are_ranked_in_a_report(tmp_path):
    """In float32 all of these probabilities are 1."""
    columns = BINARY.columns(torch.tensor([[20.0], [22.0], [25.0], [30.0]]))
    records = [
        replace(
            make_record(str(i), 1, 0.5, int(i > 1)), columns={n: v[i] for n, v in columns.items()}
        )
        for i in range(4)
    ]
    write(tmp_path / "predictions", records)
    found = read_predictions(tmp_path)
    values = {m.name: m.of(found.y, values_of(found, m)) for m in measures(found)}
    assert values["auroc"] == values["ap"] == 1


def test_several_targets_are_named(tmp_path):
    task = Multi({"age": {"task": Regression()}, "grade": {"task": Ordinal("corn")}})
    labels = {"age": np.array(["40", "50.5", ""]), "grade": np.array(["2", "3", "3"])}
    y = task.resolve(Labels(labels)).encode(Labels(labels))
    columns = task.predict(torch.tensor([[0.0, 1], [1, -1], [2, 1]]))
    records = [
        make_record(str(i), 1, {n: v[i].tolist() for n, v in columns.items()}, y[i].tolist())
        for i in range(3)
    ]
    write(tmp_path / "predictions", records, task)
    found = read_targets(tmp_path)
    assert {name: (each.task, each.class_names) for name, each in found.items()} == {
        "age": ("Regression", ()),
        "grade": ("Ordinal", ("2", "3")),
    }
    assert found["age"].labelled.y.tolist() == [40.0, 50.5]
    assert found["grade"].y.tolist() == [0, 1, 1]
    assert found["grade"].columns["grade"].tolist() == [3, 2, 3]


def test_bags_of_which_nothing_is_known(tmp_path):
    records = [make_record("a", 2, 0.5), make_record("b", 3, 0.1)]
    bags, instances = write(tmp_path, records)
    assert bags["label"].to_pylist() == [None, None]
    assert bags.schema.field("label").type == pa.int64()
    assert instances.column_names == ["bag_id", "part", "index", "score", "weight", "label"]
    for name in ("score", "weight", "label"):
        assert instances[name].null_count == 5
    assert instances.schema.field("weight").type == pa.float32()


def test_bags_of_val_and_test_stand_in_one_table(tmp_path):
    """A test, and then a prediction of the validation part, as after a training."""
    writer = PredictionWriter(tmp_path)
    test = [make_record(name, 1, 0.5, 1, **attention(0.0)) for name in ("t0", "t1")]
    val = [make_record(name, 2, 0.5, 0, part="val", **attention(0.0, 1.0)) for name in ("v0", "v1")]
    bags, _ = write(tmp_path, test, writer=writer)
    assert bags["part"].to_pylist() == ["test", "test"]
    bags, instances = write(tmp_path, val, writer=writer)
    rows = zip(*(bags[name].to_pylist() for name in ("bag_id", "part", "order")), strict=True)
    expected = {("t0", "test", 0), ("t1", "test", 1), ("v0", "val", 0), ("v1", "val", 1)}
    assert set(rows) == expected
    assert sorted(instances["part"].to_pylist()) == ["test"] * 2 + ["val"] * 4
    # Another test takes the place of the first, and does not come on top of it.
    bags, _ = write(tmp_path, test[:1], writer=writer)
    assert sorted(bags["bag_id"].to_pylist()) == ["t0", "v0", "v1"]


def test_what_the_label_table_tells_is_written_beside(tmp_path):
    told = {
        ("test", "a"): BagInfo("p1", {"age": "41", "label": "x"}),
        ("test", "b"): BagInfo(None, {"age": ""}),
        ("val", "c"): BagInfo("p2", {"age": "43", "label": "z"}),
    }
    records = [
        make_record("a", 1, 0.5, 0),
        make_record("b", 1, 0.5, 1),
        make_record("c", 1, 0.5, 1, part="val"),
    ]
    bags, _ = write(tmp_path, records, info=lambda part, bag_id: told[part, bag_id])
    assert bags["patient"].to_pylist() == ["p1", None, "p2"]
    assert bags["table_age"].to_pylist() == ["41", "", "43"]
    assert bags["table_label"].to_pylist() == ["x", None, "z"]
    assert bags["label"].to_pylist() == [0, 1, 1]
    assert bags.schema.field("table_age").type == pa.string()
    assert bags.column_names[-2:] == ["table_age", "table_label"]


def test_the_run_is_told_of_the_bags_of_each_part(tmp_path):
    shown = {}

    class Log(WandbLogger):
        def __init__(self):
            pass

        def log_table(self, name, columns, data):
            shown[name] = columns, data

    writer = PredictionWriter(tmp_path)
    for part in ("test", "val"):
        records = [make_record(part, 3, 0.25, 1, part=part)]
        write(tmp_path, records, writer=writer, loggers=[Log()])
    assert list(shown) == ["test/predictions", "val/predictions"]
    columns, ((*row,),) = shown["val/predictions"]
    assert dict(zip(columns, row, strict=True))["bag_id"] == "val"


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
