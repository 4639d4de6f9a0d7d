"""The trackers of a run, such as W&B, and what they learn of it: name and config."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from milforge.api.build import make, resolved
from milforge.api.wandb_run import set_axes
from milforge.processes.wandb_mode import wandb_mode
from milforge.trackers.patient import Patient, first_line, guard

log = logging.getLogger(__name__)

ON_THIS_MACHINE = ("TensorBoardLogger", "WandbLogger")
# Groups by which people tell runs apart, in the order of their name.
NAMED = ("experiment", "data", "model", "loss")


def run_name(config: DictConfig, choices: Mapping[str, str]) -> str | None:
    """The name of a run in a tracker: what was chosen, the fold and the seed.

    Args:
        config: the composed config.
        choices: the chosen option of each group; empty where nothing was composed by Hydra.

    Returns:
        Such as `feature_bags sm_abmil fold 2 seed 0`; None where there are no choices.
    """
    chosen = [choices[group] for group in NAMED if choices.get(group) not in (None, "null", "task")]
    if not chosen:
        return None
    split = config.get("split") or {}
    fold = split.get("fold")
    return " ".join([*chosen, *([] if fold is None else [f"fold {fold}"]), f"seed {config.seed}"])


def tracked_config(
    config: DictConfig,
    choices: Mapping[str, str],
    overrides: Sequence[str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """What a tracker gets as the config of a run: all that may differ between runs, and no folder.

    Args:
        config: the composed config, with its interpolations.
        choices: the chosen option of each group, which become `choice/<group>`.
        overrides: those of the command line.
        facts: what is known of the run beside its config, such as its number of parameters.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    kept = _without_folders(raw, resolved(config))
    chosen = {f"choice/{group}": option for group, option in sorted(choices.items())}
    return {**kept, **chosen, "overrides": list(overrides), **facts}


def _without_folders(raw: Any, value: Any) -> Any:
    """The resolved value without `paths` and all that lies below one of them."""
    if not isinstance(raw, dict) or not isinstance(value, dict):
        return value
    return {
        key: _without_folders(raw[key], inner)
        for key, inner in value.items()
        if key != "paths" and not (isinstance(raw[key], str) and "${paths." in raw[key])
    }


def begins(logger: Logger) -> bool:
    """Whether a tracker is there; W&B may not be able to start its process.

    Raises:
        wandb.errors.UsageError: for settings that W&B refuses.
    """
    if not isinstance(logger, WandbLogger):
        return True
    import wandb

    try:
        set_axes(logger)
    except wandb.errors.UsageError:
        raise
    except Exception as error:
        log.warning("logger.wandb is left out: %s", first_line(error))
        return False
    return True


def make_loggers(group: DictConfig | None) -> list[Logger]:
    """The loggers of a config, without those that are not to be had: a tracker costs no run.

    W&B hands what it is given to a process of its own, and TensorBoard writes files: they are not
    waited for. Any other tracker has a thread of its own, and as much time as
    `milforge.trackers.patient` says. One that is not installed is left out with a warning.

    Args:
        group: name to logger.
    """
    loggers: list[Logger] = []
    disabled = wandb_mode() == "disabled"
    for name, node in (group or {}).items():
        if node is None:
            continue
        target = str(node.get("_target_", ""))
        build = partial(_make_tracker, str(name), node)
        if disabled and target.endswith("WandbLogger"):
            continue
        if target.endswith("CSVLogger"):  # metrics.csv is a result: its errors count
            loggers.append(build())
            continue
        if not target.endswith(ON_THIS_MACHINE):
            loggers.append(Patient(str(name), partial(_by_its_cause, build)))
            continue
        try:
            loggers.append(guard(str(name), build()))
        except ModuleNotFoundError as error:
            log.warning("logger.%s is left out: %s", name, error)
    return loggers


def _by_its_cause(build: Callable[[], Logger]) -> Logger:
    """The logger; what went wrong in its class is raised as it was there."""
    try:
        return build()
    except InstantiationException as error:
        raise error.__cause__ or error from None


def _make_tracker(name: str, node: DictConfig) -> Logger:
    """The logger.

    Raises:
        ModuleNotFoundError: where its package is not installed; says how to install it.
        ValueError: where the `_target_` is no logger.
    """
    try:
        made: Logger = make(node)
    except InstantiationException as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        raise ModuleNotFoundError(
            f'its package is not installed: pip install "milforge[{name}]" ({error.__cause__})'
        ) from None
    if not isinstance(made, Logger):
        raise ValueError(
            f"logger.{name}: expected the _target_ of a Logger of Lightning, got "
            f"{type(made).__name__}"
        )
    return made
