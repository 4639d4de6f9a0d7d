"""The script that draws the attention of several runs side by side."""

import importlib
import runpy
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from milforge.callbacks import BagRecord
from milforge.callbacks.predictions import bags_table, instances_table
from milforge.tasks import Binary

TASK = Binary(class_names=("no", "tumour"))
SCRIPT = Path(__file__).parents[1] / "scripts" / "compare_attention.py"


def predicted(logits):
    columns = {**TASK.predict(logits), "logits": logits}
    return {name: each[0] for name, each in columns.items()}


def make_run(folder, seed=0, coords=True, bags=4, attends=True):
    generator = torch.Generator().manual_seed(seed)
    records = []
    for number in range(bags):
        places = torch.cartesian_prod(torch.arange(3), torch.arange(2 + number)) * 448
        size = len(places)
        weights = torch.rand(size, generator=generator).softmax(0) if attends else None
        records.append(
            BagRecord(
                bag_id=f"slide {number}",
                y=torch.tensor(number % 2),
                columns=predicted(torch.randn(1, 1, generator=generator)),
                scores=None if weights is None else weights.log(),
                weights=weights,
                y_inst=(torch.arange(size) < 2 * (number % 2)).long(),
                coords=places if coords else None,
                size=size,
            )
        )
    predictions = folder / "predictions"
    predictions.mkdir(parents=True)
    pq.write_table(bags_table(records, TASK), predictions / "bags.parquet")
    pq.write_table(instances_table(records), predictions / "instances.parquet")
    return folder


def test_it_draws_the_positive_bags_of_both_runs(tmp_path, monkeypatch, capsys):
    """As a script, in this process, where importing is done already."""
    runs = [make_run(tmp_path / name, seed) for seed, name in enumerate(("plain", "smooth"))]
    given = (f"plain={runs[0]}", f"Sm={runs[1]}", "--out", "both.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *given])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr() == ("both.png\n", "")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def script(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("compare_attention")


def test_the_bags_are_those_of_the_run(tmp_path, script):
    run = make_run(tmp_path / "run", seed=3)
    bags = script.read_bags(run)
    rows = pq.read_table(run / "predictions" / "instances.parquet").to_pylist()
    for number, (name, bag) in enumerate(bags.items()):
        own = [row for row in rows if row["bag_id"] == name]
        assert bag.weights.tolist() == [row["weight"] for row in own]
        assert bag.coords.tolist() == [[row["coord_0"], row["coord_1"]] for row in own]
        assert bag.y_inst.tolist() == [row["label"] for row in own]
        assert bag.y == ("no", "tumour")[number % 2]
    assert script.choose(bags, [], 3) == ["slide 1", "slide 3"]
    assert script.choose(bags, ["slide 2"], 3) == ["slide 2"]


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"coords": False}, [], "expected one label per bag, coords and attention weights"),
        ({"attends": False}, [], "expected one label per bag, coords and attention weights"),
        ({"bags": 2}, [], "there is no bag 'slide 3': give runs on one test set"),
        ({}, ["--ids", "slide 9"], "there is no bag 'slide 9'; there are slide 0"),
        ({}, ["logs/run"], "expected runs as NAME=RUN, each of another name, got 'logs/run'"),
        ({}, ["one=logs/run"], "each of another name, got 'one=logs/run'"),
        ({}, ["third=none"], "none/predictions/bags.parquet: give the folder of a run"),
    ],
)
def test_what_cannot_be_compared_is_named(
    tmp_path, script, monkeypatch, options, arguments, message
):
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other", **options)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["compare", f"one={one}", f"other={other}", *arguments])
    with pytest.raises(SystemExit, match=r"^error: ") as end:
        script.main()
    assert message in str(end.value)
    assert not list(tmp_path.glob("*.png"))
