"""What an evaluation marks."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf

from milforge.api.trained.evaluation import check_relative, mark_seen


class Tracked:
    """A logger that keeps what it is told."""

    def __init__(self):
        self.told = {}

    def log_hyperparams(self, values):
        self.told |= values


def test_a_tracked_run_says_how_many_of_its_bags_were_trained_on(tmp_path):
    tracked = Tracked()
    trainer = SimpleNamespace(loggers=[CSVLogger(tmp_path), tracked])
    mark_seen(trainer, None)
    assert tracked.told == {}
    mark_seen(trainer, {"bags": 7, "of": 9, "checkpoints": {"a.ckpt": 7}})
    assert tracked.told == {"seen_in_training": 7}
    assert not list(tmp_path.rglob("hparams.yaml"))


def config(**data):
    return {"data": data, "split": {"path": "splits.csv"}}


@pytest.mark.parametrize("key", ["data.root", "data.labels", "split.path"])
def test_a_relative_path_of_a_checkpoint_says_relative_to_what(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    stored = config(root="bags", labels="labels.csv")
    for name in ("bags", "labels.csv", "splits.csv"):
        if name != OmegaConf.select(OmegaConf.create(stored), key):
            (tmp_path / name).touch()
    with pytest.raises(ValueError, match="relative to the folder in which it was") as told:
        check_relative(OmegaConf.create(stored), stored)
    assert str(told.value).startswith(f"{key}=")
    assert f"there is none in {tmp_path}: run" in str(told.value)
    assert str(told.value).endswith(f"or give {key}=PATH")


def test_paths_that_are_there_or_typed_or_absolute_are_left_to_the_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "splits.csv").touch()
    stored = config(root="/nowhere", labels=None)
    check_relative(OmegaConf.create(stored), stored)
    check_relative(OmegaConf.create(config(root="typed")), config(root="bags"))
    check_relative(OmegaConf.create({"data": {"train": 3}, "split": None}), {"data": {"train": 3}})
