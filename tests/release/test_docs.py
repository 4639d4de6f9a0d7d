"""The guides are followed to the letter, in a copy of the project: what came of it."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from guides import GUIDES, follow
from project_copy import ROOT, copy_project, mypy, ruff

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Followed:
    """A copy of the project in which all guides were followed.

    Args:
        folder: the copy.
        said: what each command, or Python block, printed.
        runs: config and summary of each finished run.
    """

    folder: Path
    said: dict[str, str]
    runs: list[tuple[DictConfig, dict]]

    def output(self, part):
        """What the one step with these words in it printed."""
        (output,) = (output for step, output in self.said.items() if part in step)
        return output


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("guides"))
    said = follow(folder)
    runs = [
        (OmegaConf.load(path.with_name("config.yaml")), json.loads(path.read_text()))
        for path in sorted(folder.glob("logs/**/summary.json"))
    ]
    return Followed(folder, said, runs)


def test_own_model(followed):
    assert "3 passed" in followed.output("python -m pytest")
    networks = [config.model for config, _ in followed.runs]
    ks = [network.pool.k for network in networks if "TopKPool" in str(network.get("pool"))]
    assert ks == [3, 1]
    assert [each.hidden for each in networks if "InstanceMax" in each._target_] == [128]
    ruff(followed.folder, "src/milforge/nn/topk_pool.py", "tests/nn/test_topk_pool.py")
    ruff(followed.folder, "src/milforge/models/instance_max.py")


def test_outcomes(followed):
    (told,) = [run for config, run in followed.runs if config.get("run") == "cox_again"]
    assert told["task"]["name"] == "Cox"
    assert 0 <= told["metrics"]["test/c_index"] <= 1


def test_own_dataset(followed):
    looked = followed.output("data.setup()")
    assert "train 200 bags" in looked
    assert "100 positive" in looked
    runs = [
        (config, run) for config, run in followed.runs if "breast_cancer" in config.data._target_
    ]
    bags = [run["data"]["bags"] for _, run in runs]
    assert bags == [{"train": 200, "val": 100, "test": 100}] * 3
    # One epoch finds malignant tumours already; chance is a half.
    assert runs[0][1]["metrics"]["test/auroc"] > 0.8
    assert [bool(config.graph) for config, _ in runs].count(True) == 1
    cohort = [run for config, run in followed.runs if "tumour_cohort" in config.data._target_]
    assert [sum(run["data"]["bags"].values()) for run in cohort] == [120, 120]
    ruff(
        followed.folder, "src/milforge/data/breast_cancer.py", "src/milforge/data/tumour_cohort.py"
    )


def test_own_loss(followed):
    losses = [config.loss for config, _ in followed.runs if "robust" in str(config.loss)]
    assert sorted(loss.q for loss in losses) == [0.7, 0.7, 1.0]  # two trained, one evaluated
    ruff(followed.folder, "src/milforge/functional/robust_loss.py")


def test_own_metric(followed):
    metrics = [set(run["metrics"]) for _, run in followed.runs]
    assert sum("test/mcc" in each and "test/ece" not in each for each in metrics) == 1
    assert sum("test/sensitivity" in each for each in metrics) == 2
    monitors = [run.get("monitor") for _, run in followed.runs]
    assert "val/mcc" in monitors
    ruff(followed.folder, "src/milforge/metrics/sensitivity.py")


def test_own_module(followed):
    noisy = [config.module for config, _ in followed.runs if "Noisy" in config.module._target_]
    assert [module.noise for module in noisy] == [0.2]
    ruff(followed.folder, "src/milforge/training/noisy_module.py")


def test_own_task(followed):
    runs = [run for _, run in followed.runs if run["task"]["name"] == "Counts"]
    trained, evaluated = (
        run["metrics"] for run in sorted(runs, key=lambda run: "monitor" not in run)
    )
    for name in ("test/loss", "test/mae"):
        assert trained[name] == evaluated[name]
    ruff(followed.folder, "src/milforge/tasks/counts.py", "src/milforge/data/digit_counts.py")


def test_own_package(followed):
    runs = [run for config, run in followed.runs if "my_project" in str(config.loss)]
    trained, evaluated = (run["metrics"]["test/loss"] for run in runs)
    assert trained == evaluated
    ruff(followed.folder, "my_project/losses.py")


@pytest.mark.nightly
def test_a_fork_has_no_fault_of_style_or_type(followed):
    mypy(followed.folder)


def test_streams(followed):
    for streams in (["uni", "conch"], {"uni": "h5_uni", "conch": "h5_conch"}):
        steps = [step for step in followed.said if "data.root=FOLDER" in step]
        composed = [OmegaConf.create(followed.said[step]).data.streams for step in steps]
        assert streams in composed
    runs = [run for config, run in followed.runs if "two_stream" in config.data._target_]
    found = ["test/weight_gradient" in run["metrics"] for run in runs]
    assert found == [True, True, False]
    printed = followed.output("StreamFusion(in_dims=(17, 3)").strip()
    assert f"It prints `{printed}`" in (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")


def test_own_experiment(followed):
    runs = [run for config, run in followed.runs if config.sweep == "sevens"]
    assert [run["seed"] for run in runs] == [0, 1, 2]
    auroc = statistics.mean(run["metrics"]["test/auroc"] for run in runs)
    assert followed.output("stdev(values)").startswith(f"test/auroc {auroc:.3f} +- ")
    assert "'weight'" in followed.output("instances.parquet")
    online = OmegaConf.create(followed.output("offline=false"))
    assert online.logger.wandb.offline is False
    assert (followed.folder / "my_logs" / "train" / "runs").is_dir()


def test_every_guide_is_followed():
    guides = {path.name for path in (ROOT / "docs").glob("own_*.md")} | {
        "streams.md",
        "outcomes.md",
    }
    assert guides == set(GUIDES)
