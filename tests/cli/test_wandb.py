"""What stands in the `.wandb` file of an offline run, read back by W&B itself."""

import json
import os
import runpy
from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from wandb_records import config_of, read_file, read_records

ROOT = Path(__file__).parents[2]
FIGURES = ("learning_curves", "roc_pr", "confusion", "bags_9", "bags_no_9")

COLUMNS = [
    *("bag_id", "part", "patient", "size", "order"),
    *("label", "probability_0", "probability_1", "logit_0"),
]


def rows_of(logged, files, name):
    """The rows of a table, each by the names of its columns."""
    table = json.loads((files / logged[f"{name}.path"]).read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def check_dashboard(logged, history, files, metrics, artifacts):
    """Panels, tables and pictures say what the metrics say, and the saved view names them all."""
    roc = rows_of(logged, files, "panels/roc_table")
    points = [(row["fpr"], row["tpr"]) for row in roc]
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    assert area == pytest.approx(metrics["test/auroc"], abs=1e-6)
    cells = rows_of(logged, files, "panels/confusion_table")
    assert sum(row["nPredictions"] for row in cells) == 8
    right = sum(row["nPredictions"] for row in cells if row["Actual"] == row["Predicted"])
    assert right / 8 == pytest.approx(metrics["test/accuracy"], abs=1e-6)
    classes = {row["class"]: row for row in rows_of(logged, files, "panels/per_class")}
    assert classes["9"]["auroc"] == pytest.approx(metrics["test/auroc"], abs=1e-6)
    assert classes["9"]["f1"] == pytest.approx(metrics["test/f1"], abs=1e-6)

    bags = rows_of(logged, files, "test/bags")
    assert [bag["bag_id"] for bag in bags] == [f"test_{i:04d}" for i in range(8)]
    assert {bag["label"] for bag in bags} == {"9", "no 9"}
    # The pictures of a table travel in an artifact, which lies in W&B's own folder until then.
    sent = [each for record in artifacts for each in record["manifest"]["contents"]]
    pictures = {each["path"]: Path(each["local_path"]) for each in sent if ".png" in each["path"]}
    assert len(pictures) > 1
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.values())
    followed = rows_of(logged, files, "val/same_bags")
    names = [f"val_{i:04d}" for i in range(4)]
    assert [(row["epoch"], row["bag_id"]) for row in followed] == [
        (epoch, name) for epoch in range(2) for name in names
    ]
    shown = [item for item in history if "same_bags/0.caption" in item]
    assert [item["same_bags/0.caption"].split(":")[0] for item in shown] == [
        f"epoch {item['epoch']}, val_0000" for item in shown
    ]
    assert [item["epoch"] for item in shown] == [0, 1]

    named = {key.split(".")[0] for key in logged} | set(logged)
    view = runpy.run_path(str(ROOT / "scripts" / "wandb_workspace.py"))["specification"]()
    for panels in view.values():
        for kind, keys in panels:
            assert set(keys[:1] if kind == "curve" else keys) <= named, kind


@pytest.mark.slow
def test_the_parts_of_an_offline_run_that_goes_on_join(here, offline, monkeypatch, read_summary):
    """Their steps follow each other, because a server drops those that it has seen."""
    from milforge.training import MILModule

    validated = MILModule.on_validation_epoch_end

    def cut(module):
        validated(module)
        if module.current_epoch == 1:
            raise OSError("the disk is gone")

    options = ("data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=3", "run=cut")
    with monkeypatch.context() as patch:
        patch.setattr(MILModule, "on_validation_epoch_end", cut)
        here("train", *options, "callbacks.figures=null").failure()
    wish = "callbacks.dashboard.artifacts=true"
    outcome = here("train", *options, "callbacks.figures=null", wish)
    assert outcome.returncode == 0, outcome.stderr
    (line,) = [line for line in outcome.stdout.splitlines() if "wandb sync" in line]
    folders = sorted(outcome.folder.glob(line.split("wandb sync ")[1]))
    assert folders == sorted(outcome.run().glob("wandb/offline-run-*"))
    parts = [read_file(next(folder.glob("*.wandb"))) for folder in folders]
    assert len(parts) == 2
    assert len({part["run"][0]["run_id"] for part in parts}) == 1
    assert parts[1]["run"][0]["resume"] is True
    items = [record["item"] for part in parts for record in part["history"]]
    steps = [item["_step"] for item in items]
    assert all(first < second for first, second in pairwise(steps))
    assert [item["epoch"] for item in items if "val/loss" in item] == [0, 1, 2]

    run_id = parts[0]["run"][0]["run_id"]
    artifacts = {record["name"]: record for record in parts[1]["artifact"]}
    (checkpoint,) = artifacts[f"model-{run_id}"]["manifest"]["contents"]
    best = outcome.run() / "checkpoints" / "best.ckpt"
    assert Path(checkpoint["local_path"]).read_bytes() == best.read_bytes()
    (data,) = artifacts["data"]["manifest"]["contents"]
    told = json.loads(Path(data["local_path"]).read_text())
    assert told["fingerprint"] == read_summary(outcome.run())["data"]["fingerprint"]


@pytest.mark.slow
def test_an_offline_run_holds_what_the_design_says(here, offline, read_summary):
    """Two jobs of a sweep: each is a run of its own, in one group."""
    options = ("data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=2")
    outcome = here("train", "-m", "seed=0,1", "sweep=seeds", "tags=[a,b]", *options)
    assert outcome.returncode == 0, outcome.stderr
    assert "WANDB_MODE" not in os.environ
    jobs = [outcome.folder / "logs/train/multiruns/seeds" / job for job in "01"]
    runs = [read_records(job) for job in jobs]
    assert len({records["run"][0]["run_id"] for records in runs}) == 2
    for seed, (folder, records) in enumerate(zip(jobs, runs, strict=True)):
        run = records["run"][-1]
        assert run["project"] == "milforge"
        assert run["run_group"] == "seeds"
        assert run["job_type"] == "train"
        assert run["tags"] == ["a", "b"]

        config = config_of(records)
        written = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        groups = ("data", "split", "model", "loss", "metrics", "optimizer", "module")
        for name in (*groups, "seed", "sweep", "monitor", "standardise"):
            assert config[name] == written[name]
        assert str(outcome.folder) not in json.dumps(config)
        assert (config["choice/model"], config["choice/data"]) == ("gated_abmil", "digits_bags")
        assert f"seed={seed}" in config["overrides"]
        assert config["parameters"] > 1000
        assert config["fingerprint"] == read_summary(folder)["data"]["fingerprint"]
        assert run["display_name"] == f"digits_bags gated_abmil seed {seed}"
        assert config["data"]["seed"] == seed
        assert "${" not in json.dumps(
            {k: v for k, v in config.items() if not k.startswith("_wandb")}
        )

        history = [record["item"] for record in records["history"]]
        summary = read_summary(folder)["metrics"]
        auroc = [item["val/auroc"] for item in history if "val/auroc" in item]
        assert len(auroc) == 2
        assert summary["val/auroc"] in [pytest.approx(value, abs=1e-6) for value in auroc]
        assert [item["lr-Adam"] for item in history if "lr-Adam" in item] == [1e-3, 1e-3]
        assert [item["epoch"] for item in history if "val/loss" in item] == [0, 1]
        # The last value of each is what W&B's table of runs shows.
        best = {}
        for item in history:
            best |= {name: value for name, value in item.items() if name.startswith("best")}
        assert best.pop("best_epoch") == read_summary(folder)["best_epoch"]
        parts = ("train/", "val/")
        expected = {f"best/{k}": v for k, v in summary.items() if k.startswith(parts)}
        assert best == pytest.approx(expected, abs=1e-6)
        assert sum("best/val/loss" in item for item in history) >= 2
        (tested,) = [item for item in history if "test/auroc" in item]
        for name in ("auroc", "loss", "accuracy", "inst_auroc"):
            assert tested[f"test/{name}"] == pytest.approx(summary[f"test/{name}"], abs=1e-6)

        logged = {}
        for item in history:
            logged |= item
        (files,) = folder.glob("wandb/offline-run-*/files")
        for name in FIGURES:
            (picture,) = logged[f"figures/{name}.filenames"]
            assert (files / picture).read_bytes() == (folder / f"figures/{name}.png").read_bytes()
        for part in ("val", "test"):
            name = f"{part}/predictions"
            assert logged[f"{name}._type"] == "table-file"
            assert (logged[f"{name}.nrows"], logged[f"{name}.ncols"]) == (8, len(COLUMNS))
            table = json.loads((files / logged[f"{name}.path"]).read_text())
            assert table["columns"] == COLUMNS
            assert [row[:2] for row in table["data"]] == [
                [f"{part}_{i:04d}", part] for i in range(8)
            ]
        check_dashboard(logged, history, files, summary, records["artifact"])
        assert records["exit"][0].get("exit_code", 0) == 0
        assert (folder / "metrics.csv").is_file()


@pytest.mark.slow
def test_the_figures_of_attention_sampling_are_logged(here, offline):
    counts = ("data.train=10", "data.val=4", "data.test=10", "trainer.max_epochs=1")
    outcome = here("train", "experiment=megapixel_digits", *counts, "callbacks.figures=null")
    assert outcome.returncode == 0, outcome.stderr
    folder, logged = outcome.run(), {}
    for record in read_records(folder)["history"]:
        logged |= record["item"]
    (files,) = folder.glob("wandb/offline-run-*/files")
    for name in ("sampled_patches", "attention_epochs"):
        (picture,) = logged[f"figures/{name}.filenames"]
        assert (files / picture).read_bytes() == (folder / f"figures/{name}.png").read_bytes()
    assert logged["test/attention_entropy"] > 0


def test_an_evaluation_is_a_run_of_another_job_type(here, offline, checkpoint):
    outcome = here("evaluate", f"ckpt_path={checkpoint}", "callbacks.figures=null")
    assert outcome.returncode == 0, outcome.stderr
    records = read_records(outcome.run("evaluate"))
    assert records["run"][-1]["job_type"] == "evaluate"
    assert any("test/auroc" in record["item"] for record in records["history"])
    assert "wandb sync" in outcome.stdout


def test_the_mode_of_the_process_is_left_as_it_was(here, offline, monkeypatch, checkpoint):
    monkeypatch.setenv("WANDB_MODE", "online")
    outcome = here("evaluate", f"ckpt_path={checkpoint}", "callbacks.figures=null")
    assert outcome.returncode == 0, outcome.stderr
    assert os.environ["WANDB_MODE"] == "online"
    # It counts more than the config; without a key there is nobody to send the run to.
    assert "this run is tracked offline" in outcome.stdout + outcome.stderr
    assert list(outcome.run("evaluate").glob("wandb/offline-run-*"))


def test_a_run_that_fails_is_ended(here, offline, monkeypatch, checkpoint):
    """Or the next job of a multirun would go on with it."""
    import wandb

    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("milforge.callbacks.predictions.pq.write_table", broken)
    outcome = here("evaluate", f"ckpt_path={checkpoint}", "callbacks.figures=null")
    assert outcome.error() == "disk full"
    assert wandb.run is None
    assert "WANDB_MODE" not in os.environ


def test_a_wrong_config_starts_no_run(here, offline):
    here("train", "data.target=12").error()
    here("train", "trainer.accelerator=abacus").error()
    assert not list(Path().glob("logs/**/wandb"))


@pytest.mark.nightly
def test_without_its_server_the_run_is_tracked_offline(process, offline, monkeypatch):
    """Nothing listens on this port."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    outcome = process(
        "train",
        *("data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=1"),
        *("logger.wandb.offline=false", "logger.wandb.settings.init_timeout=2"),
        "callbacks.figures=null",
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "this run is tracked offline" in outcome.stdout + outcome.stderr
    assert "test/auroc" in outcome.stdout
    assert read_records(outcome.run())["history"]
