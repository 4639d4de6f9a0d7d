"""Smoothed attention by the real commands: graphs, their cache, what is logged of them."""

import csv

import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

from thinned import thinned

GRID = ("data=digits_grid", "model=sm_abmil", "data.mean_side=4", "loader.batch_size=4")


def columns(folder):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows if row[name]] for name in rows[0]}


@pytest.mark.nightly
def test_a_run_with_graphs_in_a_process_of_its_own(process, read_summary):
    """Trained, stored, evaluated from the checkpoint alone, on another graph too."""
    tiny = ("data.train=8", "data.val=4", "data.test=6", "trainer.max_epochs=2")
    outcome = process("train", *GRID, *tiny, "logger=csv", "graph.cache=graphs")
    assert outcome.returncode == 0, outcome.stderr
    folder = outcome.run()
    summary = read_summary(folder)
    graphs = summary["data"]["graphs"]
    assert set(graphs) == {"train", "val", "test"}
    assert set(graphs["train"]) == {"instances", "edges", "isolated"}
    assert "neighbours in the mean" in outcome.stdout
    assert len(list((outcome.folder / "graphs").iterdir())) == 18
    logged = columns(folder)
    for name in ("sm_alpha", "sm_energy_before", "sm_energy_after"):
        assert len(logged[f"val/{name}"]) == 2
        assert f"test/{name}" in summary["metrics"]
    assert summary["metrics"]["test/sm_energy_after"] < summary["metrics"]["test/sm_energy_before"]
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"bags_9", "bags_no_9", "learning_curves", "roc_pr"} <= figures
    instances = pq.read_table(folder / "predictions" / "instances.parquet")
    assert {"coord_0", "coord_1", "score", "weight", "label"} <= set(instances.column_names)

    best = folder / "checkpoints" / "best.ckpt"
    again = process("evaluate", f"ckpt_path={best}", "logger=csv")
    assert again.returncode == 0, again.stderr
    tested = read_summary(again.run("evaluate"))["metrics"]
    for name, value in tested.items():
        assert value == pytest.approx(summary["metrics"][name], abs=1e-6), name
    assert set(read_summary(again.run("evaluate"))["data"]["graphs"]) == {"test"}
    radius = ("graph=radius", "graph.radius=2")
    other = process("predict", f"ckpt_path={best}", "logger=csv", *radius)
    assert other.returncode == 0, other.stderr
    config = OmegaConf.load(other.run("predict") / "config.yaml")
    assert (config.graph.method, config.graph.radius) == ("radius", 2)
    assert "neighbours" not in config.graph  # of the one that was stored
    assert config.data.mean_side == 4


@pytest.mark.parametrize(
    "overrides",
    [
        (
            *("model.pool.sm_where=late", "model.pool.sm_mode=exact", "model.pool.gated=true"),
            "graph=knn",
        ),
        (
            *("model.pool.sm_where=mid", "model.pool.sm_alpha=0.3"),
            *("graph=feature_knn", "graph.weight=cosine"),
        ),
        ("model.pool.sm_where=none", "model.pool.spectral_norm=true", "graph=radius"),
    ],
)
def test_every_option_of_the_pool_by_the_command_line(train, read_summary, overrides):
    outcome = train(*GRID, "trainer.max_epochs=1", *overrides)
    assert outcome.returncode == 0, outcome.stderr
    metrics = read_summary(outcome.run())["metrics"]
    assert 0 <= metrics["test/inst_auroc"] <= 1
    smooths = "model.pool.sm_where=none" not in overrides
    assert ("test/sm_energy_after" in metrics) == smooths
    if "model.pool.sm_alpha=0.3" in overrides:
        assert metrics["test/sm_alpha"] == pytest.approx(0.3)
    weights = torch.load(outcome.run() / "checkpoints" / "best.ckpt", weights_only=True)
    assert weights["milforge"]["config"]["model"] == OmegaConf.to_container(
        OmegaConf.load(outcome.run() / "config.yaml").model
    )


def test_the_chain_variant(train, read_summary):
    outcome = train("data=digits_chain", "model=sm_abmil", "data.mean_side=12")
    assert outcome.returncode == 0, outcome.stderr
    counts = read_summary(outcome.run())["data"]["graphs"]["train"]
    assert counts["edges"] == counts["instances"] - 16  # 16 chains


@pytest.mark.parametrize(
    ("overrides", "message"),
    thinned(
        [
            (
                ("data=digits_bags",),
                "the model smooths over a graph of the instances, and the bags have none: choose "
                "graph=grid",
            ),
            (("graph=null",), "not null; ~GROUP leaves it out"),
            (("graph.radius=0", "graph=radius"), "expected radius above 0"),
            (("graph=none",), "choose graph=grid"),
            (
                ("data=digits_bags", "graph=knn"),
                "bag 'train_0000': expected coords for an adjacency by knn, got none",
            ),
            (
                ("graph=radius", "graph.radius_unit=coords"),
                "no two of",
            ),
            (("graph.method=gird",), "expected method to be one of"),
            (("graph.neighbors=4",), "did you mean 'graph.neighbours'?"),
            (("+graph.radios=4",), "AdjacencyBuilder takes no 'radios'; did you mean"),
            (("graph=gird",), "there is no graph=gird; did you mean 'grid'?"),
            (
                ("model.pool.sm_where=erly",),
                "model.pool.sm_where: expected early or mid or late or none",
            ),
            (("model.pool.sm_alpha=1.5",), "expected alpha in [0, 1) or 'trainable', got 1.5"),
        ],
        every=3,
    ),
)
def test_what_cannot_be_smoothed_is_told_before_training(here, monkeypatch, overrides, message):
    def too_late(*_):
        raise AssertionError("training began")

    monkeypatch.setattr("lightning.Trainer.fit", too_late)
    groups = [each for each in overrides if each.startswith("data=")]
    rest = [each for each in overrides if not each.startswith("data=")]
    base = ("model=sm_abmil", "logger=csv", "data.train=4", "data.val=2", "data.test=2")
    outcome = here("train", *(groups or ["data=digits_grid"]), *base, *rest)
    assert message in outcome.error()
