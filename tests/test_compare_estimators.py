"""The script that compares the estimators of attention sampling."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf
from scipy import stats

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare_estimators.py"
STEPS = [62, 125, 188]
KINDS = {
    "published": {"estimator": "published", "replace": False},
    "ordered": {"estimator": "ordered", "replace": False},
    "unordered": {"estimator": "unordered", "replace": False},
    "with replacement": {"estimator": "unordered", "replace": True},
}


def make_run(folder, kind="unordered", seed=0, *, finished=True, epochs=3, lr=0.003, **model):
    """A run's folder, its metrics logged as Lightning does; and its validation accuracies."""
    config = {
        "seed": seed,
        "data": {"size": 180, "seed": seed},
        "model": {"_target_": "milforge.models.SamplingNetwork", **KINDS[kind], **model},
        "optimizer": {"lr": lr},
        "trainer": {"default_root_dir": str(folder)},
    }
    accuracy = np.random.default_rng(seed).random(epochs)
    logger = CSVLogger(folder, name="", version="")
    for step, value in zip(STEPS, accuracy, strict=False):
        logger.log_metrics({"lr-Adam": lr}, step - 62)
        logger.log_metrics({"val/accuracy": value, "val/attention_entropy": 7 * value}, step)
        logger.log_metrics({"train/accuracy": value - 0.1}, step)
    logger.save()
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "config.yaml")
    if finished:
        metrics = {"test/accuracy": 0.8 + seed / 100, "test/attention_entropy": 2 + seed}
        summary = {"status": "finished", "metrics": metrics}
        (folder / "summary.json").write_text(json.dumps(summary))
    return accuracy


@pytest.fixture
def sweeps(tmp_path):
    """Three seeds of each kind, a folder each; and the validation accuracies of a kind."""
    accuracies = {
        kind: np.stack([make_run(tmp_path / kind / f"seed{seed}", kind, seed) for seed in range(3)])
        for kind in reversed(KINDS)
    }
    return tmp_path, accuracies


@pytest.fixture
def script(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("compare_estimators")


def test_it_prints_the_table_and_draws(sweeps, monkeypatch, capsys):
    """As a script, in this process, where importing is done already."""
    folder, _ = sweeps
    make_run(folder / "ordered" / "seed3", "ordered", 3, finished=False)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *KINDS, "--out", "curves.png"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    stdout, stderr = capsys.readouterr()
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    *rows, empty, out = stdout.splitlines()
    assert (empty, out) == ("", "curves.png")
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {kind}" for kind in KINDS]
    low, high = stats.ttest_1samp([80, 81, 82], 0).confidence_interval()
    half = (high - low) / 2
    assert rows[2] == f"| published | 3 | 81.0 ± {half:.1f} | 3.00 ± {half:.2f} |"
    assert "13 runs: 12 finished, 1 running" in stderr
    assert "ordered/seed3 (running)" in stderr


def test_a_line_is_the_mean_and_its_band_the_interval(sweeps, script):
    folder, accuracies = sweeps
    groups = script.group(script.survey([folder]).finished)
    assert list(groups) == list(KINDS)
    figure = script.draw(groups)
    for ax, scale in zip(figure.axes, (100, 7), strict=True):
        assert len({line.get_color() for line in ax.lines}) == len(KINDS)
        for kind, line, band in zip(KINDS, ax.lines, ax.collections, strict=True):
            values = scale * accuracies[kind]
            assert line.get_label() == kind
            assert line.get_xdata().tolist() == [step + 1 for step in STEPS]
            assert line.get_ydata() == pytest.approx(values.mean(0))
            ends = stats.ttest_1samp(values, 0).confidence_interval()
            edge = band.get_paths()[0].vertices
            for step, low, high in zip(STEPS, *ends, strict=True):
                heights = edge[edge[:, 0] == step + 1, 1]
                assert (heights.min(), heights.max()) == pytest.approx((low, high))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(KINDS)


def test_one_run_has_no_interval(tmp_path, script):
    make_run(tmp_path / "run")
    groups = script.group(script.survey([tmp_path]).finished)
    assert script.table(groups)[2] == "| unordered | 1 | 80.0 | 2.00 |"
    assert not script.draw(groups).axes[0].collections


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.1}, "other: expected optimizer.lr=0.003, as in "),
        ({"n_patches": 9}, "other: expected model.n_patches=None, as in "),
        ({"epochs": 2}, ", 3 up to 189, got 2 up to 126: give runs of the same budget"),
        ({"epochs": 0}, "metrics.csv: expected metrics, found no file: train with logger=csv"),
        ({"seed": 0}, "other: expected one run a variant and seed, got "),
        ({"estimator": None}, "other: expected a run of attention sampling, got one of milforge"),
    ],
)
def test_what_cannot_be_compared_is_named(tmp_path, script, monkeypatch, options, message):
    make_run(tmp_path / "one")
    make_run(tmp_path / "other", **({"seed": 1} | options))
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path), "--out", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit, match=r"^error: ") as end:
        script.main()
    assert message in str(end.value)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("folder", "message"),
    [(".", "expected at least one finished run, got none"), ("nowhere", "there is no folder")],
)
def test_where_there_is_nothing_to_compare(tmp_path, script, monkeypatch, folder, message):
    make_run(tmp_path / "run", finished=False)
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / folder)])
    with pytest.raises(SystemExit, match=message):
        script.main()
