"""One training run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import lightning as L
from omegaconf import DictConfig

from milforge.api.build import (
    check_optimizer,
    make,
    make_data,
    make_network,
    resolved,
    seed_run,
)
from milforge.api.finished_run import check_finished_run
from milforge.api.init_weights import begin_from
from milforge.api.launch import Launch
from milforge.api.learning import Learning, make_learning
from milforge.api.monitor import check_defined, check_direction, warn_of_few, with_monitor
from milforge.api.results import as_floats, best_checkpoint, best_metrics, task_summary
from milforge.api.trainer import (
    check_processes,
    make_trainer,
    quiet_run,
    write_config,
)
from milforge.api.wandb_run import wandb_folder
from milforge.callbacks.best_epoch import log_best
from milforge.config.checkpoints.checkpoint_config import as_plain, load_checkpoint, load_weights
from milforge.config.checkpoints.checkpoint_content import name_odd_values
from milforge.config.keys.key_check import did_you_mean
from milforge.config.run_identity import identity
from milforge.config.search_metric import check_metric
from milforge.data import write_split
from milforge.processes.exit_on_signal import ExitOnSignal
from milforge.processes.launch_environment import leave_with_parent
from milforge.processes.lightning_private import is_restoring
from milforge.processes.lost_process import report_lost_process
from milforge.processes.memory_limit import check_memory_limit
from milforge.processes.peak_memory import forget_peak, peak_memory
from milforge.runs.print_result import print_run
from milforge.runs.resume import (
    check_same_data,
    check_same_run,
    checkpoint_to_go_on_from,
    finished_metrics,
    only_writer,
    read_metrics,
    remove_partial_files,
    restore_metrics,
)
from milforge.runs.summary import write_summary
from milforge.training import MILDataModule, MILModule
from milforge.training.data.data_loaders import classes_to_balance

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    Args:
        folder: of the run.
        metrics: the train and val metrics of the best epoch (the last one where none is kept), and
            those of the test.
        checkpoint: the best one; None where none is kept.
    """

    folder: Path
    metrics: Mapping[str, float]
    checkpoint: Path | None


def fit(config: DictConfig, launch: Launch = Launch()) -> Run:  # noqa: B008
    """Trains, tests the best checkpoint, and writes the run's folder.

    Where the folder holds a run already, that one goes on from its last whole checkpoint; where it
    is finished, its metrics are printed again if the data at hand are still those that it saw.

    Args:
        config: as `milforge.compose("train")` makes it.
        launch: how the run was started.

    Raises:
        ValueError: for a config that does not fit the data or itself; the message names the key.
        OSError: where something cannot be read or written.
    """
    start = monotonic()
    folder = Path(config.paths.output_dir)
    check_same_run(resolved(config), folder, identity)
    done = finished_metrics(folder)
    if done is not None and config.ckpt_path != "last":
        seed_run(config)
        check_finished_run(config, folder)
        logger.info("this run is finished, and is left as it is; ckpt_path=last continues it")
        print_run(done, folder, None, None)
        kept = folder / "checkpoints" / "best.ckpt"
        return Run(folder, done, kept if kept.is_file() else None)
    check_memory_limit()
    seed_run(config)
    leave_with_parent()
    is_fresh = forget_peak()
    # Held as long as anything is written: a second run must not touch the W&B run of the first.
    with (
        ExitOnSignal(launch.again),
        only_writer(folder),
        quiet_run(config),
        report_lost_process(launch.again),
    ):
        given = None if config.ckpt_path == "last" else config.ckpt_path
        own = checkpoint_to_go_on_from(folder)
        path = own or given
        checkpoint = None if path is None else load_checkpoint(path)
        begun = config.init_from if path is None else None
        weights = None if begun is None else load_checkpoint(begun, key="init_from")
        names = () if checkpoint is None else checkpoint["milforge"]["feature_names"]
        data = make_data(config, feature_names=names)
        if weights is not None:
            data = in_order_of(config, data, weights["milforge"]["feature_names"])
        learning = make_learning(config, data.task, data.labels("train"))
        check_direction(config, data.task, learning)
        monitor = config.monitor or data.task.monitor
        if monitor.startswith(("train/", "val/")):
            labels = data.labels(monitor.partition("/")[0])
            check_defined(monitor, data.task, learning, labels)
        if data.loader.balanced:
            classes_to_balance(data.labels("train"), data.task)
        data.setup(None if config.test else "fit")  # so that all errors in the data show now
        module = make_module(config, data, learning)
        run_config = with_monitor(config, module)
        step = 0
        if path is not None and checkpoint is not None:
            # Lightning loads it too, but says nothing helpful of a file that does not fit.
            step = checkpoint["global_step"]
            if own is not None:
                before = checkpoint["milforge"]["fingerprints"]
                check_same_data(before, module.stored["fingerprints"], folder)
                module.stored["fingerprints"] = before  # of what it was begun with
            load_weights(module, checkpoint, path, data.instance_shape, data.task.class_names)
            if own is None:
                check_epochs(path, checkpoint["epoch"], config.trainer.max_epochs)
        elif weights is not None:
            begin_from(module, weights["state_dict"], config.init_from)
        rows = read_metrics(folder)
        facts = {
            "parameters": sum(each.numel() for each in module.network.parameters()),
            "fingerprint": data.fingerprint(),
        }
        trainer = make_trainer(run_config, launch, logged=config, facts=facts)
        check_processes(trainer, data, ("val", "test") if config.test else ("val",))
        warn_of_few(trainer, module.monitor, len(data.parts["val"]))
        if config.compile:
            module.network.compile(dynamic=True)  # bags differ in size
        if trainer.is_global_zero:
            (folder / "summary.json").unlink(missing_ok=True)  # of a finished run that goes on
            write_config(config, launch.overrides)
            if data.split is not None:
                write_split(data.split, folder / "splits.csv")
            restore_metrics(trainer, rows, step)
            remove_partial_files(folder)
        fit_from(trainer, module, data, path)
        best = best_checkpoint(trainer)
        best_epoch, metrics = best_metrics(module.history, best)
        log_best(trainer, best_epoch, metrics)
        if config.test:
            trainer.test(module, data, ckpt_path=best, weights_only=True, verbose=False)
            metrics |= as_floats(trainer.callback_metrics)
            # What chose the epoch, and what is to calibrate, is written beside what is reported.
            for part in ("val", "calibration"):
                if len(data.parts.get(part, ())):
                    data.predicted = part
                    trainer.predict(module, data, return_predictions=False)
        if trainer.is_global_zero:
            peak = peak_memory(
                on_gpu=trainer.strategy.root_device.type == "cuda", is_fresh=is_fresh
            )
            write_summary(
                folder,
                metrics=metrics,
                seed=config.seed,
                monitor=module.monitor,
                monitor_mode=run_config.monitor_mode,
                best_epoch=best_epoch,
                checkpoint=best,
                wall_seconds=round(monotonic() - start, 2),
                # Then the seconds are those of the last part alone.
                went_on=own is not None,
                parameters=facts["parameters"],
                peak_memory=None if peak is None else peak._asdict(),
                task=task_summary(data.task),
                data=data.description(),
            )
            print_run(metrics, folder, best, wandb_folder(trainer))
            tested, there = data.used()["test"], len(data.parts["test"])
            if config.test and tested < there:
                print(f"bags         {tested} of {there} tested (trainer.limit_test_batches)")
    return Run(folder, metrics, None if best is None else Path(best))


def in_order_of(config: DictConfig, data: MILDataModule, names: Sequence[str]) -> MILDataModule:
    """The data with the features of a table in the order that weights to begin with were learnt in.

    Args:
        config: of the run.
        data: the data in the order of their table.
        names: the features of the weights; of other features the order is left as it is.
    """
    mine = data.feature_names
    if tuple(names) == mine or sorted(names) != sorted(mine):
        return data
    logger.info("init_from: the features are taken in the order of its checkpoint")
    return make_data(config, feature_names=names)


def fit_from(trainer: L.Trainer, module: MILModule, data: MILDataModule, path: str | None) -> None:
    """Fits, from a checkpoint where there is one.

    Raises:
        ValueError: where the checkpoint holds states that cannot be taken up.
    """
    try:
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
    except Exception as error:
        if path is None or not is_restoring(trainer):
            raise
        with name_odd_values(f"ckpt_path: {path}"):
            raise error


def make_module(config: DictConfig, data: MILDataModule, learning: Learning) -> MILModule:
    """The LightningModule for the data at hand.

    Raises:
        ValueError: where the network does not fit the data, or the metric that is to choose the
            epoch does not exist, or is not defined.
    """
    task = data.task
    network = make_network(config, data)
    standardise = data.standardiser(config.standardise, config.standardise_clip)
    module = learning.build(
        network,
        task,
        loss=learning.loss,
        instances=learning.instances,
        metrics=learning.metrics,
        optimizer=make(config.optimizer),
        stored={
            "config": resolved(config),
            "instance_shape": as_plain(data.instance_shape),
            "feature_names": list(data.feature_names),
            "standardised": standardise is not None,
            "split": None if data.split is None else asdict(data.split),
            "task": task.state(),
            "class_names": list(task.class_names),
            "covariates": data.covariates,
            "num_covariates": data.num_covariates,
            "fingerprints": data.fingerprints(),
        },
        seed=config.seed,
        standardise=standardise,
        freeze=config.freeze,
    )
    known = [*module.train_metrics.names, *module.val_metrics.names]
    monitor = config.monitor or task.monitor
    module.monitor = monitor
    try:
        filled = with_monitor(config, module)
    except KeyError as error:
        raise ValueError(
            f"expected monitor to be a metric of training or validation, got {monitor!r}"
            f"{did_you_mean(monitor, known)} (there are {', '.join(known)})"
        ) from error
    if len(data.parts["val"]) == 0 and monitor.startswith("val/"):
        raise ValueError(
            f"expected validation bags for monitor={monitor}, got none: give split.val_share, or "
            "monitor=train/loss callbacks.checkpoint=null to keep the last epoch"
        )
    check_metric(config.optimized_metric, known)
    module.scheduler = make(filled.scheduler) if filled.scheduler else None
    if type(module).configure_optimizers is MILModule.configure_optimizers:
        check_optimizer(filled, module)
    return module


def check_epochs(path: str, epoch: int, max_epochs: int | None) -> None:
    """Checks that another run's checkpoint leaves something to train.

    Raises:
        ValueError: where it is of the last epoch.
    """
    if max_epochs is not None and 0 <= max_epochs <= epoch + 1:
        raise ValueError(
            f"{path} has {epoch + 1} epochs behind it, and trainer.max_epochs={max_epochs} leaves "
            "none to be trained: raise it"
        )
