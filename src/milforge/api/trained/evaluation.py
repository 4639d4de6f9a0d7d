"""Evaluation and prediction from a checkpoint, or from several that are averaged."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig, ListConfig, OmegaConf

from milforge.api.build import (
    make_data,
    resolved,
    seed_run,
)
from milforge.api.launch import Launch
from milforge.api.learning import make_learning
from milforge.api.results import as_floats, task_summary
from milforge.api.trained.members import check_ensemble, make_ensemble, make_member, stored_task
from milforge.api.trained.seen_bags import (
    MEMBERS,
    check_new_bags,
    is_other_cohort,
    kind_of_bag,
    out_of_fold,
    seen_in_training,
    tell_members,
    warn_of_seen_bags,
    write_members,
)
from milforge.api.trainer import (
    check_processes,
    make_trainer,
    quiet_run,
    write_config,
)
from milforge.api.wandb_run import wandb_folder
from milforge.config.checkpoints.checkpoint_config import (
    check_stored,
    load_checkpoint,
)
from milforge.config.checkpoints.checkpoint_content import name_odd_values
from milforge.data import AllBags, LabelError
from milforge.maps.choose import CHOICES
from milforge.processes.exit_on_signal import ExitOnSignal
from milforge.processes.launch_environment import leave_with_parent
from milforge.processes.lost_process import report_lost_process
from milforge.processes.memory_limit import check_memory_limit
from milforge.runs.print_result import print_run
from milforge.runs.resume import only_writer, remove_partial_files
from milforge.runs.summary import write_summary
from milforge.training import MILDataModule

logger = logging.getLogger(__name__)


def infer(
    config: DictConfig,
    *,
    evaluate: bool,
    launch: Launch = Launch(),  # noqa: B008
) -> dict[str, float]:
    """Tests or predicts the test bags with the weights of `ckpt_path`, and writes the run's folder.

    Several checkpoints are averaged; see `milforge.training.Ensemble`. With `out_of_fold` all bags
    are test bags, each predicted by those checkpoints alone that did not see it in training.

    Returns:
        The test metrics; none where bags are only predicted.

    Raises:
        ValueError: where a checkpoint fits neither the data nor the model of the config, several
            do not fit each other, or another process writes to the folder.
    """
    start = monotonic()
    launch = replace(launch, again="the same command begins it anew")
    check_memory_limit()
    seed_run(config)
    paths = checkpoint_list(config.ckpt_path)
    one = len(paths) == 1 and not config.out_of_fold
    checkpoints = {path: load_checkpoint(path) for path in paths}
    for path in paths:
        check_stored(path, checkpoints[path]["milforge"], launch.overrides)
    if not one:
        check_ensemble(config, checkpoints, launch.overrides)
    every = {path: checkpoint["milforge"] for path, checkpoint in checkpoints.items()}
    stored = every[paths[0]]
    folds = None
    if config.out_of_fold:
        folds = out_of_fold(every, kind_of_bag(resolved(config)["data"]))
        config = config.copy()
        config.loader.eval_batch_size = 1  # which members predict differs from bag to bag
    leave_with_parent()
    check_relative(config, stored["config"])
    folder = Path(config.paths.output_dir)
    again = launch.again
    with ExitOnSignal(again), only_writer(folder), quiet_run(config), report_lost_process(again):
        mine, its = resolved(config)["data"], stored["config"]["data"]
        whole = is_other_cohort(mine, its, launch.overrides)
        with name_odd_values(f"ckpt_path: {paths[0]}"):
            task = stored_task(config, stored)
        # Each member reads those that it was trained with, scaled as then.
        covariates = [each for content in every.values() for each in content["covariates"] or ()]
        data = make_data(
            config,
            task=task,
            covariates=covariates or None,
            feature_names=stored["feature_names"],
            split=folds or (AllBags() if whole else None),
        )
        check_labels(data)
        if named := named_bags(config):
            data.keep("test", named)
        if evaluate and data.labels("test") is None:
            raise ValueError(
                "expected labelled bags to evaluate, got data.labels=null or data.label_column=[]: "
                "milforge-predict predicts bags without labels"
            )
        if folds is None and not whole:
            check_new_bags(data.split, stored["split"], launch.overrides)
        learning = make_learning(config, data.task, data.labels("test"))
        data.setup("test")
        if whole and not len(data.parts["train"]):  # generated data have parts of their own
            message = "%d bags, which the checkpoint was not split with: all of them are test bags"
            logger.info(message, len(data.parts["test"]))
        if folds is not None:
            tell_members(folds)
        seen = None if folds is not None else seen_in_training(every, data, kind_of_bag(mine))
        warn_of_seen_bags(seen)
        if one:
            module = make_member(paths[0], checkpoints[paths[0]], config, data, learning)
        else:
            of_bag = None if folds is None else folds.members
            module = make_ensemble(checkpoints, config, data, learning, of_bag)
        trainer = make_trainer(config, launch)
        check_processes(trainer, data, ["test"])
        if trainer.is_global_zero:
            # Of an evaluation before in this folder: what is written next is not what they say.
            for name in ("summary.json", MEMBERS):
                (folder / name).unlink(missing_ok=True)
            remove_partial_files(folder)
            write_config(config, launch.overrides)
            mark_seen(trainer, seen)
        if evaluate:
            trainer.test(module, data, verbose=False)
        else:
            trainer.predict(module, data, return_predictions=False)
        metrics = as_floats(trainer.callback_metrics)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            metrics |= getattr(callback, "measured", {})  # what no step logged
        if trainer.is_global_zero:
            calibrated = any(content["task"].get("calibration") for content in every.values())
            if folds is not None:
                write_members(folder, folds, paths)
            write_summary(
                folder,
                metrics=metrics,
                seed=config.seed,
                checkpoint=paths[0] if one else paths,
                wall_seconds=round(monotonic() - start, 2),
                task=task_summary(data.task),
                data=data.description(predicts=not evaluate),
                # Probabilities are then not those that the run itself wrote.
                **({"calibrated": True} if calibrated else {}),
                **({} if seen is None else {"seen_in_training": seen}),
            )
            print_run(metrics, folder, None, wandb_folder(trainer))
            done = data.used(predicts=not evaluate)["test"]
            print(f"bags         {done} of {data.num_bags} predicted")
            if not one:
                print(f"members      {len(paths)} checkpoints, averaged")
    return metrics


def check_relative(config: DictConfig, stored: Mapping[str, Any]) -> None:
    """Checks that what a checkpoint names by a relative path is there.

    Args:
        config: of this command.
        stored: the config of the checkpoint.

    Raises:
        ValueError: where it is not; says relative to what.
    """
    trained = OmegaConf.create(dict(stored))
    for key in ("data.root", "data.labels", "split.path"):
        name = OmegaConf.select(config, key)
        if not isinstance(name, str) or name != OmegaConf.select(trained, key):
            continue
        path = Path(name).expanduser()
        if not path.is_absolute() and not path.exists():
            raise ValueError(
                f"{key}={name} of the checkpoint is relative to the folder in which it was "
                f"trained, and there is none in {Path.cwd()}: run the command from that folder, or "
                f"give {key}=PATH"
            )


def named_bags(config: DictConfig) -> list[str]:
    """The bags that are asked for by name, where no other is needed; else none.

    Example:
        >>> named_bags(OmegaConf.create({"bags": ["a", 7]}))
        ['a', '7']
        >>> named_bags(OmegaConf.create({"bags": "wrong"})), named_bags(OmegaConf.create({}))
        ([], [])
    """
    bags = config.get("bags")
    if bags is None or bags in CHOICES or config.get("faithfulness"):
        return []
    return [str(bags)] if isinstance(bags, str | int) else [str(each) for each in bags]


def checkpoint_list(given: Any) -> list[str]:
    """The checkpoints of a config, which names one or lists them.

    Raises:
        ValueError: where it does neither.

    Example:
        >>> checkpoint_list("a.ckpt")
        ['a.ckpt']
    """
    listed = [given] if isinstance(given, str) else given
    paths = list(listed) if isinstance(listed, ListConfig | list) else []
    if not paths or not all(isinstance(path, str) for path in paths):
        raise ValueError(
            f"ckpt_path: expected a file, a folder, a pattern or a list of files, got {given}"
        )
    return paths


def check_labels(data: MILDataModule) -> None:
    """Checks that the labels are of the kind that a checkpoint knows.

    Raises:
        ValueError: where they are not; the rows of a table are checked one by one elsewhere.
    """
    try:
        data.task  # noqa: B018 (it reads the labels)
    except LabelError as error:
        message = next((what for what, _ in error.problems.values()), str(error))
        raise ValueError(
            f"{message}: the checkpoint was trained on other labels; choose other data or another "
            "checkpoint"
        ) from error


def mark_seen(trainer: L.Trainer, seen: Mapping[str, Any] | None) -> None:
    """Marks a tracked run whose metrics are of bags that a checkpoint was trained on."""
    if seen is not None:
        for each in trainer.loggers:
            if not isinstance(each, CSVLogger):  # summary.json stands beside metrics.csv
                each.log_hyperparams({"seen_in_training": seen["bags"]})
