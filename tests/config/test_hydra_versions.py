"""What Hydra 1.3 and 1.4 do not take alike: the same on whichever is installed."""

import datetime

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from milforge.api.build import make
from milforge.config import hydra_versions


@pytest.mark.parametrize("target", ["os.remove", "shutil.os.remove", "torch.os.remove"])
def test_python_s_own_modules_are_refused_under_any_name(tmp_path, target):
    (tmp_path / "kept").touch()
    config = OmegaConf.create({"_target_": target, "_args_": [str(tmp_path / "kept")]})
    with pytest.raises(InstantiationException, match=r"os\.remove"):
        make(config)
    assert (tmp_path / "kept").exists()


def test_a_function_of_a_user_may_return_a_network_of_another_package(tmp_path, monkeypatch):
    text = "import torch\ndef head(width):\n    return torch.nn.Linear(width, 1)\n"
    (tmp_path / "my_heads.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "my_heads.head", "width": 3}
    assert isinstance(make(OmegaConf.create(node)), torch.nn.Linear)
    assert make(OmegaConf.create({**node, "_partial_": True}))(width=4).in_features == 4


def test_a_value_of_python_s_is_taken():
    node = {"_target_": "datetime.timedelta", "hours": 1}
    assert make(OmegaConf.create(node)) == datetime.timedelta(hours=1)


def test_a_type_that_a_class_does_not_take_is_told_with_its_key():
    config = OmegaConf.create({"data": {"_target_": "datetime.timedelta", "hours": "many"}})
    with pytest.raises(InstantiationException, match=r"(?s)unsupported type.*full_key: data"):
        make(config.data)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, KeyError])
def test_a_class_that_fails_on_its_values_is_told_with_its_key(monkeypatch, error):
    def fails(config, **kwargs):  # as 1.4 does
        raised = error("why")
        raised.add_note("full_key: data")
        raise raised

    monkeypatch.setattr(hydra_versions, "hydra_instantiate", fails)
    with pytest.raises(InstantiationException, match=r"(?s)why.*full_key: data") as told:
        make(OmegaConf.create({}))
    assert isinstance(told.value.__cause__, error)


def test_what_says_what_is_wrong_is_left_as_it_is(monkeypatch):
    def fails(config, **kwargs):
        raise ValueError("expected x")

    monkeypatch.setattr(hydra_versions, "hydra_instantiate", fails)
    with pytest.raises(ValueError, match=r"^expected x$"):
        make(OmegaConf.create({}))


def test_a_whitelist_is_given_to_the_hydra_that_takes_one(monkeypatch):
    config = OmegaConf.create({"pool": {"_target_": "mine.Pool"}})
    monkeypatch.setattr(
        hydra_versions,
        "hydra_instantiate",
        lambda config, _execution_whitelist_=None, **kwargs: _execution_whitelist_,
    )
    assert {"mine.*", "torch.*"} <= set(make(config))
    monkeypatch.setattr(hydra_versions, "hydra_instantiate", lambda config, **kwargs: kwargs)
    assert make(config) == {"_convert_": "all"}
