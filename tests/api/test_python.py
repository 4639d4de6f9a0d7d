"""MilForge from Python: no command line, and nothing that only one gives."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hydra.core.hydra_config import HydraConfig

import milforge
from bag_folders import labelled_bags
from milforge.data import Bag, digits_bags

TINY = [
    *("data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=2", "logger=none"),
    "callbacks.figures=null",
]


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def run(in_folder, monkeypatch):
    monkeypatch.setattr(HydraConfig, "get", lambda: pytest.fail("only a command line gives that"))
    return milforge.fit(milforge.compose("train", [*TINY, "model=abmil"]))


def test_a_run_is_trained_loaded_and_predicts_what_it_wrote(run, in_folder):
    assert run.folder.parent == in_folder / "logs" / "train" / "runs"
    summary = json.loads((run.folder / "summary.json").read_text())
    assert run.metrics["test/loss"] == summary["metrics"]["test/loss"]
    assert run.checkpoint == run.folder / "checkpoints" / "best.ckpt"
    bags = digits_bags(train=16, val=8, test=8, seed=0).test
    for given in (run.folder, run.checkpoint, str(run.checkpoint)):
        model = milforge.load(given)
        assert model.task.class_names == ("no 9", "9")
        assert model.config.model.pool.gated is False
        assert model.standardise is None
        assert not model.network.training
        found = model.predict([bags[i] for i in range(len(bags))]).to_pydict()
        wrote = pq.read_table(
            run.folder / "predictions" / "bags.parquet", filters=[("part", "=", "test")]
        ).to_pydict()
        assert found["bag_id"] == wrote["bag_id"]
        assert found["label"] == wrote["label"]
        np.testing.assert_allclose(found["probability_1"], wrote["probability_1"], atol=1e-6)


def test_bags_without_labels_or_graphs_are_predicted(in_folder):
    labelled_bags(in_folder / "bags")
    overrides = ["data=feature_bags", "data.root=bags", "data.labels=labels.csv", "split.folds=3"]
    overrides += ["split.val_share=0.2", "loader.num_workers=0", "graph=grid", "model=sm_abmil"]
    config = milforge.compose("train", [*overrides, *TINY[3:]])
    config.model.pool.att_dim = 8
    model = milforge.load(milforge.fit(config).folder)
    coords = 256 * torch.tensor([[0, 0], [1, 0], [1, 1]])
    table = model.predict([Bag(torch.zeros(3, 4), coords=coords, bag_id="new")])
    assert table["bag_id"].to_pylist() == ["new"]
    assert table["label"].to_pylist() == [None]
    assert 0 < table["probability_1"][0].as_py() < 1
    with pytest.raises(ValueError, match="bag 'bare': expected coords for an adjacency by grid"):
        model.predict([Bag(torch.zeros(3, 4), bag_id="bare")])


def test_what_is_wrong_is_a_sentence(in_folder):
    with pytest.raises(ValueError, match="expected the command train, got 'evaluate'"):
        milforge.compose("evaluate", [])
    with pytest.raises(ValueError, match="no checkpoint; give the folder of a run"):
        milforge.load(in_folder)
    with pytest.raises(ValueError, match=r"load: there is no file nowhere\.ckpt"):
        milforge.load("nowhere.ckpt")
    labelled_bags(in_folder / "bags")
    overrides = ["data=feature_bags", "data.root=bags", "data.labels=labels.csv", "split=none"]
    config = milforge.compose("train", [*overrides, *TINY[3:]])
    with pytest.raises(ValueError, match="split=kfold, random, files or all"):
        milforge.fit(config)


def test_options_of_ones_own(in_folder):
    (in_folder / "conf" / "optimizer").mkdir(parents=True)
    text = "_target_: torch.optim.RMSprop\n_partial_: true\nlr: 0.5\n"
    (in_folder / "conf" / "optimizer" / "mine.yaml").write_text(text)
    config = milforge.compose("train", ["optimizer=mine"], config_dirs=[in_folder / "conf"])
    assert config.optimizer.lr == 0.5


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, milforge; print({'torch', 'lightning', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
