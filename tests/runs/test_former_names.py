"""What was written under a former name of the package is read under the present one."""

import pytest
import torch
from omegaconf import OmegaConf

from milforge.config.checkpoints.checkpoint_config import load_checkpoint
from milforge.config.run_identity import identity
from milforge.report.runs import read_run
from milforge.runs import former_names
from milforge.runs.former_names import PRESENT, with_present_key, with_present_targets
from milforge.runs.resume import RefusedFolder, check_same_run
from milforge.training import WholeCheckpointIO

OLDEST, OLD = "oldest", "old_lab"


def config_of(name):
    return {
        "seed": 0,
        "model": {"_target_": f"{name}.models.BagNetwork", "pool": {"_target_": "torch.nn.GELU"}},
        "data": {"name": f"{name}.models", "parts": [{"_target_": f"{name}.data.digits_bags"}]},
    }


def with_present_names(config):
    """What `config_of` gives, with its targets written anew by hand."""
    model = {**config["model"], "_target_": f"{PRESENT}.models.BagNetwork"}
    parts = [{"_target_": f"{PRESENT}.data.digits_bags"}]
    return {**config, "model": model, "data": {**config["data"], "parts": parts}}


def checkpoint_of(name):
    stored = {
        **{"config": config_of(name), "history": {"val/loss": [(0, 1.0)]}, "seen": []},
        **{"instance_shape": [2], "standardised": False, "task": {}, "class_names": []},
        **{"split": None, "covariates": None, "feature_names": [], "fingerprints": {}},
    }
    steps = {"epoch": 3, "global_step": 4, "pytorch-lightning_version": "2.6.6"}
    return {"state_dict": {"weight": torch.ones(2)}, **steps, name: stored}


@pytest.fixture
def renamed(monkeypatch):
    monkeypatch.setattr(former_names, "former_names", lambda: [OLDEST, OLD])


def test_the_record_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(former_names, "files", lambda name: tmp_path)
    assert former_names.former_names() == []
    (tmp_path / "former_names.txt").write_text(f"# Names\n\n{OLDEST} 8f3c\n{OLD}\n")
    assert former_names.former_names() == [OLDEST, OLD]


@pytest.mark.parametrize("name", [OLDEST, OLD, PRESENT])
def test_targets_take_the_present_name(renamed, name):
    config = config_of(name)
    assert with_present_targets(config) == with_present_names(config)
    assert config == config_of(name)


def test_names_that_only_begin_alike_stay(renamed):
    for target in (f"{OLD}s.nn.Sm", f"my.{OLD}.nn.Sm", OLD, "torch.nn.GELU", None, 3):
        assert with_present_targets({"_target_": target}) == {"_target_": target}


@pytest.mark.parametrize("name", [OLDEST, OLD, PRESENT])
def test_checkpoints_take_the_present_name(renamed, tmp_path, name):
    before = checkpoint_of(name)
    after = with_present_key(before)
    stored = {**before[name], "config": with_present_names(before[name]["config"])}
    assert after[PRESENT] == stored
    assert set(after) == {*before} - {name} | {PRESENT}
    assert before[name]["config"] == config_of(name)
    path = tmp_path / "some.ckpt"
    torch.save(before, path)
    assert load_checkpoint(str(path))[PRESENT] == stored
    assert WholeCheckpointIO().load_checkpoint(path, weights_only=True)[PRESENT] == stored


@pytest.mark.parametrize("stored", [None, [1], "text", {}])
def test_other_checkpoints_are_left_to_whoever_reads_them(renamed, stored):
    assert with_present_key({OLD: stored, "epoch": 3})["epoch"] == 3
    assert with_present_key({"epoch": 3}) == {"epoch": 3}


def test_a_run_of_before_goes_on_and_is_reported(renamed, tmp_path):
    config = OmegaConf.create(with_present_names(config_of(OLD)))
    OmegaConf.save(OmegaConf.create(config_of(OLD)), tmp_path / "config.yaml")
    check_same_run(OmegaConf.to_container(config), tmp_path, identity)
    assert read_run(tmp_path).config["model._target_"] == f"{PRESENT}.models.BagNetwork"
    config.seed = 1
    with pytest.raises(RefusedFolder, match="seed is 0 there and 1 here"):
        check_same_run(OmegaConf.to_container(config), tmp_path, identity)


def test_without_a_former_name_nothing_is_translated(monkeypatch, tmp_path):
    monkeypatch.setattr(former_names, "former_names", list)
    config, checkpoint = config_of(OLD), checkpoint_of(OLD)
    assert with_present_targets(config) is config
    assert with_present_key(checkpoint) is checkpoint
    torch.save(checkpoint, tmp_path / "some.ckpt")
    with pytest.raises(ValueError, match=f"lacks the key '{PRESENT}'"):
        load_checkpoint(str(tmp_path / "some.ckpt"))
