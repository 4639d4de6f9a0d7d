"""What stands in the `.wandb` file of an offline run, read back by W&B itself."""

import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from wandb_records import config_of, read_records

FIGURES = ("learning_curves", "roc_pr", "confusion", "bags_9", "bags_no_9")

COLUMNS = [
    *("bag_id", "part", "patient", "size", "order"),
    *("label", "probability_0", "probability_1", "logit_0"),
]


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
        assert "${" not in json.dumps(config)

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
