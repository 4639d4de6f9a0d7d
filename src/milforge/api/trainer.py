"""The trainer of a run, its loggers, and what is written beside it."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning as L
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import DictConfig, OmegaConf

from milforge.api.build import make, make_loader, resolved
from milforge.api.launch import Launch
from milforge.api.tracking import begins, make_loggers, run_name, tracked_config
from milforge.api.wandb_run import prepare_wandb
from milforge.callbacks import Interruption
from milforge.callbacks.never_fatal import never_fatal
from milforge.data import Loader
from milforge.processes.files import atomic_path
from milforge.trackers.patient import wait_for
from milforge.training import MILDataModule

log = logging.getLogger(__name__)

# Lightning's warnings that tell a user of these commands nothing.
HARMLESS = (
    ".*Total length of `list` across ranks is zero.*",  # there may be no bags to validate on
    ".*does not have many workers.*",  # bags are read in this process by choice; a key away
    ".*recommended to use .*sync_dist=True.*",  # the metrics are those of all processes
    ".*exists and is not empty.*",  # a run's folder holds its config before its checkpoints
    ".*requested to overfit but enabled.*",  # our order of the bags is fixed then
    ".*dirpath has changed from.*",  # a run that goes on writes to a folder of its own
    ".*no last checkpoint available.*",  # ckpt_path=last of a job that is only now begun
    ".*ReduceLROnPlateau conditioned on metric.*",  # in epochs without validation
    ".*srun. command is available.*",  # scripts/slurm_train.sh uses it where it is meant to
    ".*isinstance.treespec, LeafSpec.*",  # between Lightning and torch
)

# What they are given is written here, or by a process of their own.
FINISH_SECONDS = 600.0  # that W&B may take to upload what is left
_MOST_DEVICES = 65_536  # of a machine, or machines of a run
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


def make_trainer(
    config: DictConfig,
    launch: Launch = Launch(),  # noqa: B008
    logged: DictConfig | None = None,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> L.Trainer:
    """The trainer with its callbacks and loggers; the loggers know the resolved config.

    Args:
        config: of the run.
        launch: how it was started.
        logged: the config that the loggers get, where it is another one.
        facts: what they get beside it, such as the number of parameters.
    """
    _check_devices(config.trainer)
    logged = config if logged is None else logged
    loggers = make_loggers(config.logger)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            name = run_name(logged, launch.choices)
            prepare_wandb(logger, Path(config.paths.output_dir) / "wandb_id", name)
    callbacks = _make_callbacks(config.callbacks)
    if not loggers:
        callbacks = [each for each in callbacks if not isinstance(each, LearningRateMonitor)]
    # What it saves holds the state of those that save checkpoints: behind them, wherever it stands.
    callbacks.sort(key=lambda each: isinstance(each, Interruption))
    for each in callbacks:
        if isinstance(each, Interruption):
            each.again = launch.again
    options = {"callbacks": callbacks, "logger": loggers or False}
    trainer: L.Trainer = make(config.trainer, **options, **without_mps(config.trainer))
    _check_launch(trainer, launch)
    _check_trainer(trainer)
    _check_shares(trainer, make_loader(config))
    trainer.loggers = [each if begins(each) else DummyLogger() for each in loggers]
    told = tracked_config(logged, launch.choices, launch.overrides, facts)
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):  # config.yaml stands beside metrics.csv already
            logger.log_hyperparams(told)
    return trainer


def without_mps(config: DictConfig) -> dict[str, str]:
    """What keeps a run off the GPU of a Mac: metrics and draws need float64, which it has not.

    Args:
        config: of the trainer.

    Returns:
        What is to be given to the trainer besides.

    Raises:
        ValueError: where that GPU is asked for by name.
    """
    accelerator = config.get("accelerator", "auto")
    if not MPSAccelerator.is_available() or CUDAAccelerator.is_available():
        return {}
    if accelerator in ("mps", "gpu"):
        raise ValueError(
            f"trainer.accelerator={accelerator}: the GPU of a Mac (MPS) has no float64, which "
            "metrics and the draws of patches need; choose trainer=cpu"
        )
    # Until the run is over, see `quiet_run`: the advice would be wrong.
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    if accelerator != "auto":
        return {}
    log.info("trainer.accelerator=auto: the CPU, because the GPU of a Mac (MPS) has no float64")
    return {"accelerator": "cpu"}


def _check_launch(trainer: L.Trainer, launch: Launch) -> None:
    """Refuses processes that would each run the whole sweep anew.

    Raises:
        ValueError: in a multirun, for a strategy that starts the command line again.
    """
    launcher = trainer.strategy.launcher
    starts_anew = launcher is not None and not launcher.is_interactive_compatible
    if launch.by_slurm:
        environment = getattr(trainer.strategy, "cluster_environment", None)
        starts_anew &= environment is None or not environment.creates_processes_externally
    if starts_anew and launch.in_sweep:
        raise ValueError(
            "expected one process per job in a multirun, got a trainer that starts "
            f"{trainer.world_size} by running the whole command again; choose trainer=cpu or "
            "trainer=gpu, launcher=submitit_slurm, which starts them itself, or run the jobs one "
            "by one"
        )


def _check_devices(trainer: DictConfig) -> None:
    """Refuses more devices or machines than there are, each of which Lightning would write down.

    Raises:
        ValueError: names the key.
    """
    for name in ("devices", "num_nodes"):
        given = trainer.get(name)
        if isinstance(given, int | str) and str(given).isdecimal() and int(given) > _MOST_DEVICES:
            raise ValueError(f"expected trainer.{name} of at most {_MOST_DEVICES}, got {given}")


def _check_trainer(trainer: L.Trainer) -> None:
    """Refuses what no run can be trained, or go on, with.

    Raises:
        ValueError: names the key and the remedy.
    """
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"expected trainer.precision to be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, "
            f"got {trainer.precision}: coords and graphs of a batch are not to be converted"
        )
    if trainer.accumulate_grad_batches < 1:
        raise ValueError(
            "trainer.accumulate_grad_batches: expected at least 1, got "
            f"{trainer.accumulate_grad_batches}"
        )
    if trainer.max_steps != -1 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ValueError(
            f"expected no trainer.max_steps, got {trainer.max_steps}: with it Lightning begins an "
            "epoch anew when a run goes on; give trainer.max_epochs, with "
            "trainer.limit_train_batches for a short one"
        )


def _check_shares(trainer: L.Trainer, loader: Loader) -> None:
    """Refuses shares of an epoch where epochs differ in their number of batches.

    Raises:
        ValueError: names the key and the remedy.
    """
    if loader.max_instances is None or trainer.overfit_batches > 0:  # type: ignore[attr-defined]
        return
    for key in ("val_check_interval", "limit_train_batches"):
        share = getattr(trainer, key)
        if isinstance(share, float) and share != 1.0:
            raise ValueError(
                f"trainer.{key}={share} is a share of an epoch, and with loader.max_instances="
                f"{loader.max_instances} epochs differ in their number of batches: give a number "
                f"of batches, such as trainer.{key}=20, or loader.max_instances=null"
            )


def check_processes(trainer: L.Trainer, data: MILDataModule, parts: Iterable[str]) -> None:
    """Refuses more processes than there are bags to evaluate, before any training.

    Raises:
        ValueError: names the part and the remedy.
    """
    for part in parts:
        bags = len(data.parts[part])
        if 0 < bags < trainer.world_size:
            raise ValueError(
                f"expected at least one {part} bag per process, got {bags} for "
                f"{trainer.world_size} processes; lower trainer.devices or trainer.num_nodes"
            )


def _make_callbacks(group: DictConfig | None) -> list[Callback]:
    """The callbacks of a config.

    Raises:
        ValueError: where a `_target_` is no callback.
    """
    made = [(str(name), make(node)) for name, node in (group or {}).items() if node is not None]
    for name, each in made:
        if not isinstance(each, Callback):
            raise ValueError(
                f"callbacks.{name}: expected the _target_ of a lightning.Callback, got "
                f"{type(each).__name__}"
            )
    return [each for _, each in made]


@contextmanager
def quiet_run(config: DictConfig) -> Iterator[None]:
    """Ends what a run starts, whatever happens, and leaves the process as it was found.

    A W&B run that is not finished would be continued by the next job of a multirun.
    """
    ours = ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR")
    before = {name: os.environ.get(name) for name in ours}
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        code = 1
        try:
            yield
            code = 0
        finally:
            with never_fatal("W&B did not finish its run"):
                if wandb := sys.modules.get("wandb"):
                    wait_for("W&B", partial(wandb.finish, code), FINISH_SECONDS)
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def write_config(config: DictConfig, overrides: Sequence[str]) -> None:
    """Writes the resolved config and the overrides into the run's folder."""
    folder = Path(config.paths.output_dir)
    with atomic_path(folder / "config.yaml") as path:
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(resolved(config))), "utf-8")
    with atomic_path(folder / "overrides") as path:
        path.write_text("".join(f"{override}\n" for override in overrides), "utf-8")
