"""One training run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from milforge.callbacks.end_when_told import EndWhenTold
from milforge.cli.build import (
    as_floats,
    check_processes,
    make,
    make_data,
    make_network,
    make_trainer,
    module_class,
    quiet_run,
    resolved,
    seed_run,
    wandb_folder,
    write_config,
)
from milforge.cli.check import did_you_mean
from milforge.cli.closing import print_run
from milforge.cli.lost_process import lost_process_told
from milforge.cli.parent import leave_with_parent
from milforge.cli.resume import (
    check_same_run,
    checkpoint_to_go_on_from,
    finished_metrics,
    only_writer,
    read_metrics,
    remove_partial_files,
    restore_metrics,
)
from milforge.cli.stored import as_plain, load_checkpoint, load_weights
from milforge.cli.summary import write_summary
from milforge.cli.sweep import check_metric
from milforge.data import write_split
from milforge.training import (
    BagClassification,
    BagDataModule,
    ClassificationDataModule,
    ImageClassification,
)

logger = logging.getLogger(__name__)


def fit(config: DictConfig) -> dict[str, float]:
    """Trains, tests the best checkpoint, and writes the run's folder.

    Where the folder holds a run already, that one goes on from its last whole checkpoint; nothing
    is done where it is finished.

    Returns:
        The train and val metrics of the best epoch (the last one where none is kept), and those
        of the test.
    """
    start = monotonic()
    folder = Path(config.paths.output_dir)
    check_same_run(config, folder)
    done = finished_metrics(folder)
    if done is not None and config.ckpt_path != "last":
        logger.info("this run is finished, and is left as it is; ckpt_path=last goes on with it")
        print_run(done, folder, None, None)
        return done
    seed_run(config)
    leave_with_parent()
    # For as long as anything is written: a second run shall not touch the W&B run of the first.
    with EndWhenTold(), only_writer(folder), quiet_run(config), lost_process_told():
        data = make_data(config)
        module = make_module(config, data)
        given = None if config.ckpt_path == "last" else config.ckpt_path
        own = checkpoint_to_go_on_from(folder)
        path = own or given
        step = 0
        if path is not None:
            # Lightning would load it too, but a file that does not fit shall be told in a sentence.
            checkpoint = load_checkpoint(path)
            step = checkpoint["global_step"]
            load_weights(module, checkpoint, path, data.instance_shape, data.class_names)
            if own is None:
                check_epochs(path, checkpoint["epoch"], config.trainer.max_epochs)
        rows = read_metrics(folder)
        trainer = make_trainer(config)
        check_processes(trainer, data, ("val", "test") if config.test else ("val",))
        if config.compile:
            module.network.compile(dynamic=True)  # bags differ in size
        if trainer.is_global_zero:
            (folder / "summary.json").unlink(missing_ok=True)  # of a finished run that goes on
            write_config(config, list(HydraConfig.get().overrides.task))
            if data.split is not None:
                write_split(data.split, folder / "splits.csv")
            restore_metrics(trainer, rows, step)
            remove_partial_files(folder)
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
        best = best_checkpoint(trainer)
        best_epoch, metrics = best_metrics(module.history, best)
        if config.test:
            trainer.test(module, data, ckpt_path=best, weights_only=True, verbose=False)
            metrics |= as_floats(trainer.callback_metrics)
        if trainer.is_global_zero:
            write_summary(
                folder,
                metrics=metrics,
                seed=config.seed,
                monitor=config.monitor,
                best_epoch=best_epoch,
                checkpoint=best,
                wall_seconds=round(monotonic() - start, 2),
                data=data.description(),
            )
            print_run(metrics, folder, best, wandb_folder(trainer))
    return metrics


def make_module(
    config: DictConfig, data: ClassificationDataModule[Any]
) -> BagClassification | ImageClassification:
    """The LightningModule for the data at hand."""
    if config.class_weights not in (None, "balanced"):
        raise ValueError(
            f"expected class_weights to be balanced or null, got {config.class_weights!r}"
        )
    if config.monitor_mode not in ("min", "max"):
        raise ValueError(f"expected monitor_mode to be min or max, got {config.monitor_mode!r}")
    network = make_network(config, data)
    weights = data.class_weights() if config.class_weights else None
    standardise = data.standardiser() if isinstance(data, BagDataModule) else None
    module = module_class(data)(
        network,
        data.task,
        data.class_names,
        optimizer=make(config.optimizer),
        scheduler=make(config.scheduler) if config.scheduler else None,
        monitor=config.monitor,
        class_weights=weights,
        stored={
            "config": resolved(config),
            "instance_shape": as_plain(data.instance_shape),
            "standardised": standardise is not None,
            "split": None if data.split is None else asdict(data.split),
            "task": data.task,
            "class_names": list(data.class_names),
            "class_weights": None if weights is None else weights.tolist(),
        },
        seed=config.seed,
        standardise=standardise,
    )
    if len(data.splits.val) == 0 and config.monitor in module.val_metrics.names:
        raise ValueError(
            f"expected validation bags for monitor={config.monitor}, got none: give "
            "data.val_share, or monitor=train/loss callbacks.checkpoint=null to keep the last epoch"
        )
    known = [*module.train_metrics.names, *module.val_metrics.names]
    if config.monitor not in known:
        raise ValueError(
            f"expected monitor to be a metric of training or validation, got {config.monitor!r}"
            f"{did_you_mean(config.monitor, known)} (there are {', '.join(known)})"
        )
    check_metric(config.optimized_metric, known)
    return module


def best_checkpoint(trainer: L.Trainer) -> str | None:
    """Path of the best checkpoint, or None where none was written."""
    kept = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    return kept[0].best_model_path or None if kept else None


def best_metrics(
    history: Mapping[str, Sequence[tuple[float, float]]], checkpoint: str | None
) -> tuple[int | None, dict[str, float]]:
    """The best epoch and its metrics; the last one's where no checkpoint is kept.

    An epoch may have several validations: it is that of the checkpoint which counts.
    """
    if checkpoint is None:
        return None, metrics_of(history, None)
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    epoch = int(kept["epoch"])
    return epoch, metrics_of(history, epoch) | metrics_of(kept["milforge"]["history"], epoch)


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


def metrics_of(
    history: Mapping[str, Sequence[tuple[float, float]]], epoch: int | None
) -> dict[str, float]:
    """The metrics of an epoch, or of the last one."""
    chosen: dict[str, float] = {}
    for name, points in sorted(history.items()):
        values = {int(at): value for at, value in points}
        if epoch is None or epoch in values:
            chosen[name] = values[max(values) if epoch is None else epoch]
    return chosen
