"""Bags of several streams by the real commands."""

import csv

import numpy as np
import pytest
import torch

from bag_folders import features, grid, write_h5, write_labels
from predicted import bags
from thinned import thinned

DIGITS = ("data=two_stream_digits", "loader.batch_size=4")


def columns(folder):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows if row[name]] for name in rows[0]}


def test_two_streams_from_training_to_prediction(train, here, read_summary):
    """Trained, stored, evaluated and used from the checkpoint alone."""
    outcome = train("experiment=two_stream_digits", "callbacks.figures.bags=0", figures=True)
    assert outcome.returncode == 0, outcome.stderr
    folder = outcome.run()
    summary = read_summary(folder)["metrics"]
    logged = columns(folder)
    for stream in ("pixels", "gradient"):
        assert len(logged[f"train/weight_{stream}"]) == len(logged[f"val/weight_{stream}"]) == 2
        # They start at a half, and two epochs do not take them far.
        assert 0.3 < summary[f"test/weight_{stream}"] < 0.7
        assert summary[f"test/weight_{stream}"] != 0.5
    assert (folder / "figures" / "stream_weights.png").stat().st_size > 10_000
    best = folder / "checkpoints" / "best.ckpt"
    again = here("evaluate", f"ckpt_path={best}", "logger=csv", "callbacks.figures=null")
    assert again.returncode == 0, again.stderr
    tested = read_summary(again.run("evaluate"))["metrics"]
    assert {"test/weight_pixels", "test/weight_gradient", "test/inst_auroc"} < set(tested)
    for name, value in tested.items():
        assert value == pytest.approx(summary[name], abs=1e-6), name
    used = here("predict", f"ckpt_path={best}", "logger=csv")
    assert used.returncode == 0, used.stderr
    first, second = (bags(each)["probability_1"] for each in (folder, used.run("predict")))
    np.testing.assert_allclose(second, first, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "weighed"),
    thinned(
        [
            (("model/fusion=scalar",), True),
            (("model/fusion=convex", "model=mean_pool"), True),
            (("model/fusion=elementwise", "model=max_pool", "model.fuse=bags"), True),
            (("model/fusion=attention", "model=abmil", "model.fuse=bags"), True),
            (("model/fusion=adaptive", "model=sm_abmil", "graph=chain"), True),
            (("model=sm_abmil", "graph=chain", "model.fuse=bags"), True),
            (("model/fusion=concat", "model.fuse=bags"), False),
            (("data.streams=[gradient]", "model.fusion=null"), False),
        ],
        every=3,
    ),
)
def test_every_fusion_at_either_level_by_the_command_line(train, read_summary, overrides, weighed):
    outcome = train(*DIGITS, "trainer.max_epochs=1", *overrides)
    assert outcome.returncode == 0, outcome.stderr
    metrics = read_summary(outcome.run())["metrics"]
    assert 0 <= metrics["test/auroc"] <= 1
    names = {name for name in metrics if "/weight_" in name}
    stages = ("train", "val", "test")
    expected = {f"{stage}/weight_{name}" for stage in stages for name in ("pixels", "gradient")}
    assert names == (expected if weighed else set())
    if weighed:
        total = metrics["test/weight_pixels"] + metrics["test/weight_gradient"]
        # Those of other modes start at a half each, and an epoch does not take them far.
        exact = bool({"convex", "attention"} & modes(overrides))
        assert total == pytest.approx(1, abs=1e-5 if exact else 0.4)


def modes(overrides):
    return {each.partition("model/fusion=")[2] for each in overrides}


def test_a_run_of_one_stream_has_no_fusion(train, read_summary):
    outcome = train(*DIGITS, "data.streams=[pixels]", "trainer.max_epochs=1")
    assert outcome.returncode == 0, outcome.stderr
    assert not any("/weight_" in name for name in read_summary(outcome.run())["metrics"])
    checkpoint = torch.load(outcome.run() / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["milforge"]["instance_shape"] == [64]
    assert not any("fusion" in name for name in checkpoint["state_dict"])


@pytest.fixture
def encoders(tmp_path):
    """A folder as TRIDENT writes it, of two encoders of other widths and scales."""
    root = tmp_path / "slides"
    for number in range(12):
        size = 4 + number % 3
        for width, name in ((6, "uni"), (3, "conch_v1.5")):
            x = features(size, width, seed=number) * (100 if name == "uni" else 1)
            x += (number % 2) * np.float16(0.5)
            arrays = {"features": x, "coords": grid(size)}
            write_h5(root / f"features_{name}" / f"s{number}.h5", arrays)
    write_labels(tmp_path / "labels.csv", {f"s{number}": number % 2 for number in range(12)})
    return ("data=feature_bags", f"data.root={root}", f"data.labels={tmp_path / 'labels.csv'}")


def test_two_encoders_from_disk_one_with_a_dot_in_its_name(here, encoders, read_summary):
    own = ("logger=csv", "loader.num_workers=0")
    figures = "callbacks.figures=null"
    names = ("data.streams=[uni,conch_v1.5]", "loader.batch_size=3", "trainer.max_epochs=2")
    outcome = here("train", *encoders, *names, *own, figures)
    assert outcome.returncode == 0, outcome.stderr
    metrics = read_summary(outcome.run())["metrics"]
    assert {"test/weight_uni", "test/weight_conch_v1.5"} < set(metrics)
    best = outcome.run() / "checkpoints" / "best.ckpt"
    weights = torch.load(best, weights_only=True)["state_dict"]
    means = [weights[f"standardise.stream_{name}.mean"] for name in ("uni", "conch_v1%2E5")]
    assert [len(mean) for mean in means] == [6, 3]
    again = here("evaluate", f"ckpt_path={best}", *own, figures)
    assert again.returncode == 0, again.stderr
    tested = read_summary(again.run("evaluate"))["metrics"]
    assert tested["test/loss"] == pytest.approx(metrics["test/loss"], abs=1e-6)
    # The order in which streams are named does not matter; which they are does.
    turned = here("predict", f"ckpt_path={best}", "data.streams=[conch_v1.5,uni]", *own)
    assert turned.returncode == 0, turned.stderr
    first, second = (bags(each) for each in (outcome.run(), turned.run("predict")))
    np.testing.assert_allclose(second["probability_1"], first["probability_1"], atol=1e-6)
    other = here("predict", f"ckpt_path={best}", "data.streams=[uni]", *own)
    assert other.returncode == 1
    assert "the checkpoint was trained on instances of shape" in other.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    thinned(
        [
            (
                ("model.fusion=null",),
                "expected model/fusion, such as model/fusion=adaptive, for the streams "
                "['gradient', 'pixels'], got none",
            ),
            (("model/fusion=convx",), "did you mean 'convex'?"),
            (("model.fusion.mode=convx",), "expected mode to be one of"),
            (("model.fusion.dims=3",), "did you mean 'model.fusion.dim'?"),
            (("model.fuse=bag",), "model.fuse: expected instances or bags, got 'bag'"),
            (
                ("model/encoder=identity", "model.fusion.dim=null"),
                "expected streams of equal width",
            ),
            (("model/encoder=lenet",), "stream 'gradient': expected images of shape"),
            (("data.streams=[pixel]",), "expected streams to be pixels or gradient or both, got"),
            (("data.gradient_noise=-1",), "expected noise of at least 0 on gradient, got -1"),
            (("graph=feature_knn",), "expected one stream of features to build a graph from"),
        ],
        every=3,
    ),
)
def test_what_cannot_be_fused_is_told_before_training(here, monkeypatch, overrides, message):
    def too_late(*_):
        raise AssertionError("training began")

    monkeypatch.setattr("lightning.Trainer.fit", too_late)
    tiny = ("data.train=4", "data.val=2", "data.test=2", "logger=csv")
    assert message in here("train", *DIGITS, *tiny, *overrides).error()
