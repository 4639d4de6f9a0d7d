"""`milforge-train`: what a run computes, and what its folder holds."""

import csv
import json
import re
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from predicted import bags as bags_of
from predicted import instances as instances_of

BAG_COLUMNS = [
    *("bag_id", "part", "patient", "size", "order"),
    *("label", "probability_0", "probability_1", "logit_0"),
]
PNG = b"\x89PNG\r\n\x1a\n"


def read_metrics(folder):
    """Metric name -> its values in order, from `metrics.csv`."""
    values = {}
    with (folder / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    values.setdefault(name, []).append(float(value))
    return values


def weights_of(folder, name="best"):
    path = folder / "checkpoints" / f"{name}.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_the_folder_holds_what_the_design_says(trained):
    folder = trained.run()
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    figures = ("learning_curves", "roc_pr", "confusion", "bags_9", "bags_no_9")
    assert found == {
        "config.yaml",
        "overrides",
        "metrics.csv",
        "summary.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        "predictions/bags.parquet",
        "predictions/instances.parquet",
        *(f"figures/{name}.png" for name in figures),
    }
    for name in figures:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(PNG)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?", folder.name)


def test_the_config_is_resolved_and_can_be_read_again(trained):
    folder = trained.run()
    text = (folder / "config.yaml").read_text()
    assert "${" not in text
    assert "???" not in text
    config = OmegaConf.create(text)
    assert config.seed == config.data.seed == 3
    assert config.data.train == 16
    assert Path(config.paths.output_dir).resolve() == folder.resolve()
    overrides = (folder / "overrides").read_text().splitlines()
    assert "seed=3" in overrides
    assert "data.train=16" in overrides


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_hold_tensors_and_plain_data_only(trained, name):
    folder = trained.run()
    checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    stored = checkpoint["milforge"]
    assert stored["config"] == OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert stored["instance_shape"] == [1, 8, 8]
    state = {"kind": "binary", "class_names": ["no 9", "9"], "weights": None}
    assert stored["task"] == state
    assert stored["class_names"] == ["no 9", "9"]
    assert all(isinstance(value, torch.Tensor) for value in checkpoint["state_dict"].values())


def test_the_summary_says_what_the_run_was(trained, read_summary):
    folder = trained.run()
    summary = read_summary(folder)
    assert set(summary) == {
        *("status", "metrics", "seed", "monitor", "best_epoch", "checkpoint", "wall_seconds"),
        *("versions", "git_commit", "task", "data"),
        *("monitor_mode", "parameters", "peak_memory", "went_on"),
    }
    names = ["no 9", "9"]
    assert summary["task"] == {"name": "Binary", "class_names": names, "metric": "auroc"}
    assert summary["monitor_mode"] == "min"
    assert summary["parameters"] > 1000
    assert summary["status"] == "finished"
    assert summary["seed"] == 3
    assert summary["monitor"] == "val/loss"
    assert summary["wall_seconds"] > 0
    assert Path(summary["checkpoint"]).samefile(folder / "checkpoints" / "best.ckpt")
    assert summary["data"]["bags"] == {"train": 16, "val": 8, "test": 8}
    assert summary["data"]["skipped"] == []
    assert re.fullmatch(r"[0-9a-f]{16}", summary["data"]["fingerprint"])
    assert summary["versions"]["torch"] == torch.__version__
    assert {"python", "milforge", "lightning", "hydra-core"} <= set(summary["versions"])
    assert summary["git_commit"] is None  # the temporary folder is no repository
    names = ("loss", "auroc", "accuracy", "f1", "ap", "ece", "inst_auroc", "inst_ap")
    expected = {f"{stage}/{name}" for stage in ("train", "val", "test") for name in names}
    assert set(summary["metrics"]) == expected
    assert all(isinstance(value, float) for value in summary["metrics"].values())


def test_the_best_epoch_is_that_of_the_smallest_loss(trained, read_summary):
    losses = read_metrics(trained.run())["val/loss"]
    summary = read_summary(trained.run())
    assert summary["best_epoch"] == int(np.argmin(losses))
    assert summary["metrics"]["val/loss"] == pytest.approx(min(losses), rel=1e-6)


def test_metrics_are_those_of_scikit_learn_on_the_predictions(trained, read_summary):
    bags = pq.read_table(trained.run() / "predictions" / "bags.parquet")
    assert bags.column_names == BAG_COLUMNS
    assert bags.schema.metadata[b"class_names"] == b"no 9\n9"
    assert bags.schema.metadata[b"task"] == b"Binary"
    whole = bags.to_pydict()
    assert whole["bag_id"] == [f"{part}_{i:04d}" for part in ("test", "val") for i in range(8)]
    assert whole["part"] == ["test"] * 8 + ["val"] * 8
    assert whole["order"] == [*range(8)] * 2
    assert whole["patient"] == [None] * 16
    logit = np.array(whole["logit_0"], np.float64)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), whole["probability_1"], rtol=1e-5)
    table = bags_of(trained.run())
    y, p = np.array(table["label"]), np.array(table["probability_1"])
    np.testing.assert_allclose(np.array(table["probability_0"]) + p, 1, rtol=1e-6)
    metrics = read_summary(trained.run())["metrics"]
    assert metrics["test/auroc"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)
    assert metrics["test/ap"] == pytest.approx(average_precision_score(y, p), abs=1e-6)
    assert metrics["test/accuracy"] == pytest.approx(accuracy_score(y, p > 0.5), abs=1e-6)
    assert metrics["test/f1"] == pytest.approx(f1_score(y, p > 0.5), abs=1e-6)
    loss = -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-5)


def test_localisation_is_that_of_scikit_learn_on_the_instances(trained, read_summary):
    instances = pq.read_table(trained.run() / "predictions" / "instances.parquet")
    assert instances.column_names == ["bag_id", "part", "index", "score", "weight", "label"]
    bags = pq.read_table(trained.run() / "predictions" / "bags.parquet").to_pydict()
    sizes = Counter(instances.to_pydict()["bag_id"])
    assert dict(zip(bags["bag_id"], bags["size"], strict=True)) == sizes
    table = {name: np.array(values) for name, values in instances_of(trained.run()).items()}
    aurocs, aps = [], []
    for bag in np.unique(table["bag_id"]):
        rows = table["bag_id"] == bag
        scores, weights, labels = (table[name][rows] for name in ("score", "weight", "label"))
        np.testing.assert_array_equal(table["index"][rows], np.arange(rows.sum()))
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
        np.testing.assert_allclose(weights, np.exp(scores) / np.exp(scores).sum(), rtol=1e-4)
        if 0 < labels.sum() < len(labels):
            aurocs.append(roc_auc_score(labels, scores))
            aps.append(average_precision_score(labels, scores))
    metrics = read_summary(trained.run())["metrics"]
    assert metrics["test/inst_auroc"] == pytest.approx(np.mean(aurocs), abs=1e-5)
    assert metrics["test/inst_ap"] == pytest.approx(np.mean(aps), abs=1e-5)


def test_the_test_metrics_are_printed_with_the_paths(trained):
    for words in ("test/auroc", "test/accuracy", "best.ckpt", "figures", "predictions"):
        assert words in trained.stdout


def test_progress_is_lines_where_there_is_no_terminal(trained):
    lines = trained.stderr.splitlines()
    assert [
        line
        for line in lines
        if not re.match(r"epoch +\d+ of 2 .*val/loss|testing|predicting", line)
    ] == []
    assert len(lines) == 4  # the bags of validation are predicted when the test is done
    assert not set(trained.stderr) & set("\r\x1b█▏|%")


def test_the_same_seed_gives_the_same_bits(train, tmp_path, read_summary):
    """Seed 0, which is false as a number; seed 3 is repeated by the tests below."""
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        folders.append(train("seed=0", folder=tmp_path / name).run())
    one, two = folders
    for name in ("best", "last"):
        assert_same_weights(weights_of(one, name), weights_of(two, name))
    assert read_summary(one)["metrics"] == read_summary(two)["metrics"]
    assert read_metrics(one) == read_metrics(two)
    assert read_summary(one)["data"] == read_summary(two)["data"]


def test_another_seed_gives_another_run(trained, train, read_summary):
    other = train("seed=0").run()
    summaries = read_summary(trained.run()), read_summary(other)
    assert summaries[0]["metrics"] != summaries[1]["metrics"]
    assert summaries[0]["data"]["fingerprint"] != summaries[1]["data"]["fingerprint"]
    assert summaries[1]["seed"] == 0


def test_figures_and_loggers_change_nothing(trained, train, read_summary):
    outcome = train("seed=3", "logger=none", "callbacks.progress=null")
    assert_same_weights(weights_of(trained.run()), weights_of(outcome.run()))
    assert read_summary(outcome.run())["metrics"] == read_summary(trained.run())["metrics"]
    assert not (outcome.run() / "metrics.csv").exists()


@pytest.mark.nightly
def test_workers_change_nothing(trained, process, read_summary):
    """In a process of its own: a fork beside the threads of the tests is no fair trial."""
    arguments = ("data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=2")
    outcome = process(
        "train",
        *arguments,
        "logger=csv",
        "seed=3",
        "callbacks.figures=null",
        "loader.num_workers=2",
    )
    assert outcome.returncode == 0, outcome.stderr
    assert_same_weights(weights_of(trained.run()), weights_of(outcome.run()))
    assert read_summary(outcome.run())["metrics"] == read_summary(trained.run())["metrics"]


def test_the_batch_size_of_evaluation_changes_nothing(trained, train, read_summary):
    outcome = train("seed=3", "loader.eval_batch_size=3")
    expected, metrics = (read_summary(each.run())["metrics"] for each in (trained, outcome))
    assert metrics == pytest.approx(expected, abs=1e-6)
    assert_same_weights(weights_of(trained.run(), "last"), weights_of(outcome.run(), "last"))


def test_a_multirun_makes_a_folder_a_job(train, read_summary):
    outcome = train("-m", "model=abmil,mean_pool", "sweep=poolings", "trainer.max_epochs=1")
    assert outcome.returncode == 0, outcome.stderr
    sweep = outcome.folder / "logs" / "train" / "multiruns" / "poolings"
    jobs = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert jobs == ["0", "1"]
    with_attention, without = (read_summary(sweep / job) for job in jobs)
    assert "test/inst_auroc" in with_attention["metrics"]
    assert "test/inst_auroc" not in without["metrics"]
    assert with_attention["data"] == without["data"]
    assert OmegaConf.load(sweep / "0" / "config.yaml").sweep == "poolings"
    instances = pq.read_table(sweep / "1" / "predictions" / "instances.parquet")
    assert instances["weight"].null_count == len(instances)


def test_a_multirun_without_a_name_is_named_by_its_time(train, read_summary):
    outcome = train("-m", "seed=0,1", "trainer.max_epochs=1", "test=false")
    (sweep,) = (outcome.folder / "logs" / "train" / "multiruns").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", sweep.name)
    assert [read_summary(sweep / job)["seed"] for job in "01"] == [0, 1]
    assert {OmegaConf.load(sweep / job / "config.yaml").sweep for job in "01"} == {sweep.name}


def test_runs_of_the_same_second_get_folders_of_their_own(train, monkeypatch):
    monkeypatch.setattr("milforge.config.run_folders._now", lambda: "2000-01-01_00-00-00")
    for _ in range(2):
        outcome = train("trainer.max_epochs=1", "test=false")
    folders = sorted(path.name for path in (outcome.folder / "logs/train/runs").iterdir())
    assert folders == [f"2000-01-01_00-00-00{end}" for end in ("", "_2")]
    for name in folders:
        assert (outcome.folder / "logs/train/runs" / name / "summary.json").is_file()


def test_test_false_tests_nothing(train, read_summary):
    folder = train("test=false").run()
    assert not any(name.startswith("test/") for name in read_summary(folder)["metrics"])
    assert not (folder / "predictions").exists()
    assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_debug_fast_runs_one_batch_of_each_part(train, read_summary):
    outcome = train("debug=fast")
    assert outcome.returncode == 0, outcome.stderr
    assert not list(outcome.run().rglob("*.ckpt"))
    assert read_summary(outcome.run())["best_epoch"] is None


@pytest.mark.nightly
def test_debug_overfit_learns_the_same_few_bags_by_heart(train):
    options = ("data.train=64", "optimizer.lr=0.01", "trainer.max_epochs=60")
    outcome = train("debug=overfit", *options, "callbacks.early_stopping=null")
    assert outcome.returncode == 0, outcome.stderr
    losses = read_metrics(outcome.run())["train/loss"]
    assert losses[0] > 0.5
    assert losses[-1] < 0.02


def test_debug_profile_writes_a_table(train):
    outcome = train("debug=profile")
    table = (outcome.run() / "fit-profile.txt").read_text()
    assert "run_training_epoch" in table


def test_a_run_goes_on_from_a_checkpoint(trained, checkpoint, train, tmp_path, read_summary):
    """Two epochs and two more end where four end."""
    last = checkpoint.with_name("last.ckpt")
    options = ("seed=3", "trainer.max_epochs=4")
    for name in ("whole", "more"):
        (tmp_path / name).mkdir()
    whole = train(*options, folder=tmp_path / "whole")
    more = train(*options, f"ckpt_path={last}", folder=tmp_path / "more")
    assert more.returncode == 0, more.stderr
    assert "epoch   2 of 4" in more.stderr
    assert "epoch   1 of 4" not in more.stderr
    assert_same_weights(weights_of(whole.run(), "last"), weights_of(more.run(), "last"))
    history = [
        torch.load(each.run() / "checkpoints/last.ckpt", weights_only=True)["milforge"]["history"]
        for each in (whole, more)
    ]
    # Another folder is another run, whose history begins there.
    assert [epoch for epoch, _ in history[1]["val/loss"]] == [2, 3]
    assert {name: points[2:] for name, points in history[0].items()} == history[1]


def test_the_last_checkpoint_of_the_same_folder_is_named_last(train, tmp_path):
    again = ("hydra.run.dir=here", "seed=3")
    assert train(*again, "ckpt_path=last").returncode == 0  # none is there yet: from the start
    outcome = train(*again, "ckpt_path=last", "trainer.max_epochs=3")
    assert "epoch   2 of 3" in outcome.stderr
    assert "epoch   1 of 3" not in outcome.stderr
    names = {path.name for path in (tmp_path / "here" / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt", "previous.ckpt"}


def test_balanced_class_weights_change_the_loss_as_by_hand(train):
    """Plain sampling of bags of 3 makes few positive ones; without weights all losses count 1."""
    options = ("data.sampling=plain", "data.mean_size=3", "data.sd_size=0", "trainer.max_epochs=1")
    folder = (
        train(*options, "task.class_weights=balanced", "hydra.run.dir=balanced").folder / "balanced"
    )
    train(*options, "hydra.run.dir=plain")
    table = bags_of(folder)
    y, p = np.array(table["label"]), np.array(table["probability_1"])
    from milforge.data import digits_bags

    labels = digits_bags(
        train=16, val=8, test=8, mean_size=3, sd_size=0, sampling="plain", seed=0
    ).train.labels.numpy()
    weights = len(labels) / (2 * np.bincount(labels))
    assert weights[1] > weights[0]
    loss = np.mean(weights[y] * -np.where(y == 1, np.log(p), np.log(1 - p)))
    balanced = json.loads((folder / "summary.json").read_text())["metrics"]
    assert balanced["test/loss"] == pytest.approx(loss, rel=1e-5)
    plain = json.loads((folder.parent / "plain" / "summary.json").read_text())["metrics"]
    assert balanced["train/loss"] != plain["train/loss"]


@pytest.mark.slow
def test_a_multilabel_task_trains_whole(train, read_summary):
    options = ("data.target=[3,9]", "data.sampling=plain", "data.mean_size=4")
    outcome = train(*options, "task.class_weights=balanced", figures=True)
    assert outcome.returncode == 0, outcome.stderr
    values = bags_of(outcome.run())
    assert list(values)[5:] == [
        *("label_0", "label_1", "probability_0", "probability_1", "logit_0", "logit_1")
    ]
    y = np.array([values["label_0"], values["label_1"]]).T
    p = np.array([values["probability_0"], values["probability_1"]]).T
    metrics = read_summary(outcome.run())["metrics"]
    assert metrics["test/auroc"] == pytest.approx(roc_auc_score(y, p, average="macro"), abs=1e-6)
    assert metrics["test/accuracy"] == pytest.approx(np.mean((p > 0.5) == y), abs=1e-6)
    figures = {path.name for path in (outcome.run() / "figures").iterdir()}
    assert figures == {
        *("learning_curves.png", "roc_pr.png", "confusion.png"),
        *("bags_3.png", "bags_9.png", "bags_none.png"),
    }
    task = {"name": "Multilabel", "class_names": ["3", "9"], "metric": "auroc"}
    assert read_summary(outcome.run())["task"] == task


def test_the_cosine_scheduler_decays_to_zero(train):
    folder = train("scheduler=cosine", "trainer.max_epochs=4", "test=false").run()
    rates = read_metrics(folder)["lr-Adam"]
    expected = [0.5e-3 * (1 + np.cos(np.pi * epoch / 4)) for epoch in range(4)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_bags_that_a_limit_leaves_out_are_not_counted(train, read_summary):
    limits = [f"+trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    outcome = train(
        *limits, "loader.batch_size=5", "loader.eval_batch_size=5", "trainer.max_epochs=1"
    )
    assert outcome.returncode == 0, outcome.stderr
    data = read_summary(outcome.run())["data"]
    assert data["bags"] == {"train": 5, "val": 5, "test": 5}
    assert data["bags_of_parts"] == {"train": 16, "val": 8, "test": 8}
    assert "bags         5 of 8 tested (trainer.limit_test_batches)" in outcome.stdout


def test_the_plateau_scheduler_looks_at_the_monitor(train):
    """No loss falls by ten: that of the first epoch stays the best, and the rate drops."""
    options = ("scheduler.patience=0", "scheduler.threshold=10", "scheduler.threshold_mode=abs")
    options = (options[0], *(f"+{each}" for each in options[1:]))
    folder = train("scheduler=plateau", *options, "trainer.max_epochs=4", "test=false").run()
    rates = read_metrics(folder)["lr-Adam"]
    assert all(after <= before for before, after in pairwise(rates))
    np.testing.assert_allclose(rates[-1] / rates[0], 1e-2, rtol=1e-6)
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (scheduler,) = last["lr_schedulers"]
    first = {name: points[0][1] for name, points in last["milforge"]["history"].items()}
    assert float(scheduler["best"]) == pytest.approx(first["val/loss"], rel=1e-6)
    assert first["val/loss"] != pytest.approx(first["train/loss"], rel=1e-3)


def test_a_run_that_diverges_stops_with_the_names_of_its_bags(train):
    """The second epoch begins at a learning rate that is too high."""
    step = "{_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 1, gamma: 1e30}"
    outcome = train(f"+scheduler={step}")
    assert "the loss is not finite in epoch 1, step 1, of 'train_00" in outcome.error()
    last = torch.load(outcome.run() / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 0
    assert all(each.isfinite().all() for each in last["state_dict"].values())


def test_the_commit_of_the_repository_is_kept(train, tmp_path, read_summary):
    def git(*arguments):
        done = subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "start")
    folder = train("trainer.max_epochs=1", "test=false").run()
    assert read_summary(folder)["git_commit"] == git("rev-parse", "HEAD")


def test_a_user_keeps_configs_of_their_own(train, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndata: {mean_size: 3}\nseed: 11\n"
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)
    outcome = train(
        f"--config-dir={tmp_path / 'conf'}", "experiment=mine", "trainer.max_epochs=1", "test=false"
    )
    assert outcome.returncode == 0, outcome.stderr
    config = OmegaConf.load(outcome.run() / "config.yaml")
    assert (config.seed, config.data.seed, config.data.mean_size) == (11, 11, 3)


def test_the_network_is_compiled_for_bags_of_any_size(train, monkeypatch):
    """Not for real: torch takes half a minute, and the checks of shapes in tests are beyond it."""
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **options: compiled.append((module, options))
    )
    short = ("trainer.max_epochs=1", "test=false")
    assert train("compile=true", *short).returncode == 0
    ((network, options),) = compiled
    assert type(network).__name__ == "BagNetwork"
    assert options == {"dynamic": True}
    assert train(*short).returncode == 0
    assert len(compiled) == 1
