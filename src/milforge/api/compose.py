"""A config from Python, without a command line."""

from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from milforge.config import run_folders
from milforge.config.hydra_versions import VERSION_BASE
from milforge.config.keys.key_check import check_targets
from milforge.config.messages import config_dir
from milforge.config.resolvers import prepare


def compose(
    command: str = "train",
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[str | Path] = (),
) -> DictConfig:
    """The config that a command line would have.

    Args:
        command: `train`; a checkpoint is evaluated by `milforge.load`.
        overrides: as on the command line, such as `["model=sm_abmil", "graph=grid"]`.
        config_dirs: folders with options of your own, as `--config-dir` adds them.

    Returns:
        The config; it may be changed before `fit` gets it. It names no folder of a run yet: `fit`
        makes one, or takes that of `run=NAME`.

    Raises:
        ValueError: for another command, and for a key, a value or a target that there is not.

    Example:
        >>> config = compose("train", ["model=abmil", "data.train=10"])
        >>> config.model.pool.gated, config.data.train
        (False, 10)
    """
    if command != "train":
        raise ValueError(
            f"expected the command train, got {command!r}: milforge.load(RUN) does what others do"
        )
    prepare()
    path = [f"hydra.searchpath=[{','.join(map(str, config_dirs))}]"] if config_dirs else []
    with hydra.initialize_config_dir(config_dir(), **VERSION_BASE):
        config = hydra.compose(command, overrides=[*path, *overrides, "paths.output_dir=null"])
    check_targets(config)
    return config


def with_folder(config: DictConfig) -> DictConfig:
    """The config with the folder of its run, which is made where it has no name."""
    if config.paths.output_dir is not None:
        return config
    config = config.copy()
    parent = Path(config.paths.log_dir).absolute() / config.task_name / "runs"
    run_folders.forget()
    config.paths.output_dir = run_folders.run_dir(str(parent), config.run)
    Path(config.paths.output_dir).mkdir(parents=True, exist_ok=True)
    return config
