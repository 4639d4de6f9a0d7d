"""Where a run is trained."""

import sys
import warnings
from types import SimpleNamespace

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from omegaconf import OmegaConf

from milforge.api.tracking import make_loggers
from milforge.api.trainer import make_trainer, without_mps
from milforge.api.wandb_run import prepare_wandb
from milforge.processes.lightning_private import is_offline, run_options


def make_config(**trainer):
    return OmegaConf.create(
        {
            "trainer": {"_target_": "lightning.Trainer", "accelerator": "cpu", **trainer},
            "callbacks": {},
            "logger": {},
            "loader": {"_target_": "milforge.data.Loader", "max_instances": 100},
        }
    )


@pytest.mark.parametrize("key", ["val_check_interval", "limit_train_batches"])
def test_a_share_of_an_epoch_of_no_fixed_length_is_refused(key):
    with pytest.raises(ValueError, match=f"give a number of batches, such as trainer.{key}=20,"):
        make_trainer(make_config(**{key: 0.5}))
    for fine in (1.0, 7):
        assert make_trainer(make_config(**{key: fine})) is not None
    config = make_config(**{key: 0.5})
    config.loader.max_instances = None
    assert make_trainer(config) is not None


def test_wandb_that_is_disabled_begins_no_run(tmp_path, monkeypatch):
    config = make_config()
    config.logger = {
        "csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path)},
        "wandb": {
            "_target_": "lightning.pytorch.loggers.WandbLogger",
            "save_dir": str(tmp_path),
            "offline": True,
        },
    }
    config.paths = {"output_dir": str(tmp_path)}
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (only,) = make_trainer(config).loggers
    assert isinstance(only, CSVLogger)
    assert not (tmp_path / "wandb_id").exists()


@pytest.mark.parametrize(("mode", "offline"), [("online", False), ("dryrun", True)])
def test_the_environment_counts_more_than_the_config(tmp_path, monkeypatch, mode, offline):
    monkeypatch.setenv("WANDB_MODE", mode)
    logger = WandbLogger(save_dir=tmp_path, offline=not offline)
    begun = []
    monkeypatch.setattr(WandbLogger, "experiment", property(begun.append))
    prepare_wandb(logger, tmp_path / "wandb_id", "name")
    assert is_offline(logger) == offline
    assert bool(begun) != offline


def test_a_damaged_id_begins_a_run_of_its_own(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    path = tmp_path / "wandb_id"
    path.write_bytes(b"\xff/..")
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    prepare_wandb(logger, path, "name")
    assert path.read_text().strip() == run_options(logger)["id"]
    assert "wandb_id is damaged" in caplog.text


def test_a_mode_that_wandb_does_not_know_is_refused(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(ValueError, match="WANDB_MODE=onlin: expected the environment to say onl"):
        make_trainer(make_config())


def test_gradients_of_no_batch_are_refused():
    with pytest.raises(ValueError, match="accumulate_grad_batches: expected at least 1, got 0"):
        make_trainer(make_config(accumulate_grad_batches=0))


def test_what_is_no_callback_or_logger_is_named(monkeypatch):
    config = make_config()
    config.callbacks = {"mine": {"_target_": "pathlib.PosixPath"}}
    with pytest.raises(ValueError, match=r"callbacks\.mine: expected .* a lightning.Callback"):
        make_trainer(config)
    config = make_config()
    config.logger = {"CSVLogger": {"_target_": "own_loggers.CSVLogger"}}
    monkeypatch.setitem(sys.modules, "own_loggers", SimpleNamespace(CSVLogger=dict))
    with pytest.raises(ValueError, match=r"logger\.CSVLogger: expected .* got dict"):
        make_trainer(config)


@pytest.fixture
def machine(monkeypatch):
    """A stand-in for a machine with these accelerators."""

    def call(*, mps, cuda=False):
        monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: mps))
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: cuda))

    return call


def test_on_a_mac_auto_is_the_cpu(machine):
    machine(mps=True)
    config = make_config(accelerator="auto", devices=1)
    with warnings.catch_warnings():
        trainer = make_trainer(config)
    assert trainer.strategy.root_device.type == "cpu"


@pytest.mark.parametrize("accelerator", ["mps", "gpu"])
def test_the_gpu_of_a_mac_is_refused(machine, accelerator):
    machine(mps=True)
    with pytest.raises(ValueError, match=f"accelerator={accelerator}: .*; choose trainer=cpu"):
        without_mps(OmegaConf.create({"accelerator": accelerator}))


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cpu"])
@pytest.mark.parametrize("machine_", [{"mps": False}, {"mps": True, "cuda": True}])
def test_elsewhere_nothing_changes(machine, machine_, accelerator):
    machine(**machine_)
    assert without_mps(OmegaConf.create({"accelerator": accelerator})) == {}


def test_a_tracker_that_is_not_installed_is_left_out(monkeypatch, caplog, tmp_path):
    """Whatever is installed here: the packages are hidden."""
    for name in ("trackio", "tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", False)
    group = OmegaConf.create(
        {
            "tensorboard": {
                "_target_": "lightning.pytorch.loggers.TensorBoardLogger",
                "save_dir": str(tmp_path),
            },
            "mlflow": {"_target_": "milforge.trackers.MLflow"},
            "trackio": {"_target_": "milforge.trackers.Trackio"},
            "csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path)},
        }
    )
    loggers = make_loggers(group)
    for logger in loggers:
        logger.log_metrics({"loss": 1.0})
    assert [type(each).__name__ for each in loggers] == ["Patient", "Patient", "CSVLogger"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    for name, line in zip(("tensorboard", "mlflow", "trackio"), told, strict=True):
        assert line.startswith(f"logger.{name} is left out")
        assert f'pip install "milforge[{name}]"' in line


class Locked(CSVLogger):
    def __init__(self):
        raise OSError("runs.db: database is locked")


def test_what_a_tracker_cannot_begin_for_is_told_in_its_own_words(caplog):
    make_loggers(OmegaConf.create({"mine": {"_target_": f"{__name__}.Locked"}}))
    (record,) = caplog.records
    assert record.getMessage().endswith("left out from here on: runs.db: database is locked")


def test_wandb_that_cannot_start_its_process_is_left_out(monkeypatch, caplog, tmp_path):
    def fail(*_, **__):
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr("wandb.init", fail)
    config = make_config()
    config.paths = {"output_dir": str(tmp_path)}
    config.logger = {
        "wandb": {
            "_target_": "lightning.pytorch.loggers.WandbLogger",
            "save_dir": str(tmp_path),
            "offline": True,
        }
    }
    trainer = make_trainer(config)
    assert not [each for each in trainer.loggers if isinstance(each, WandbLogger)]
    assert "logger.wandb is left out: Cannot allocate memory" in caplog.text
