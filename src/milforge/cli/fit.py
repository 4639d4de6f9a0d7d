"""One training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from milforge.cli.build import (
    as_floats,
    make,
    make_data,
    make_network,
    make_trainer,
    quiet_run,
    resolved,
    seed_run,
    wandb_folder,
    write_config,
)
from milforge.cli.check import did_you_mean
from milforge.cli.closing import print_run
from milforge.cli.stored import load_checkpoint, load_weights
from milforge.cli.summary import describe_data, write_summary
from milforge.training import BagClassification, BagDataModule


def fit(config: DictConfig) -> dict[str, float]:
    """Trains, tests the best checkpoint, and writes the run's folder.

    Returns:
        The train and val metrics of the best epoch (the last one where none is kept), and those
        of the test.
    """
    start = monotonic()
    seed_run(config)
    with quiet_run(config):
        data = make_data(config)
        module = make_module(config, data)
        if config.ckpt_path not in (None, "last"):
            # Lightning would load it too, but a file that does not fit shall be told in a sentence.
            checkpoint = load_checkpoint(config.ckpt_path)
            shape, classes = data.instance_shape, data.class_names
            load_weights(module, checkpoint, config.ckpt_path, shape, classes)
        trainer = make_trainer(config)
        if trainer.is_global_zero:
            write_config(config, list(HydraConfig.get().overrides.task))
        trainer.fit(module, data, ckpt_path=config.ckpt_path, weights_only=True)
        best = best_checkpoint(trainer)
        best_epoch = None if best is None else epoch_of(best)
        metrics = metrics_of(module.history, best_epoch)
        if config.test:
            trainer.test(module, data, ckpt_path=best, weights_only=True, verbose=False)
            metrics |= as_floats(trainer.callback_metrics)
        if trainer.is_global_zero:
            folder = Path(config.paths.output_dir)
            write_summary(
                folder,
                metrics=metrics,
                seed=config.seed,
                monitor=config.monitor,
                best_epoch=best_epoch,
                checkpoint=best,
                wall_seconds=round(monotonic() - start, 2),
                data=describe_data(data),
            )
            print_run(metrics, folder, best, wandb_folder(trainer))
    return metrics


def make_module(config: DictConfig, data: BagDataModule) -> BagClassification:
    """The LightningModule for the data at hand."""
    if config.class_weights not in (None, "balanced"):
        raise ValueError(
            f"expected class_weights to be balanced or null, got {config.class_weights!r}"
        )
    if config.monitor_mode not in ("min", "max"):
        raise ValueError(f"expected monitor_mode to be min or max, got {config.monitor_mode!r}")
    network = make_network(config, data)
    weights = data.class_weights() if config.class_weights else None
    module = BagClassification(
        network,
        data.task,
        data.class_names,
        optimizer=make(config.optimizer),
        scheduler=make(config.scheduler) if config.scheduler else None,
        monitor=config.monitor,
        class_weights=weights,
        stored={
            "config": resolved(config),
            "instance_shape": list(data.instance_shape),
            "task": data.task,
            "class_names": list(data.class_names),
            "class_weights": None if weights is None else weights.tolist(),
        },
    )
    known = [*module.train_metrics.names, *module.val_metrics.names]
    if config.monitor not in known:
        raise ValueError(
            f"expected monitor to be a metric of training or validation, got {config.monitor!r}"
            f"{did_you_mean(config.monitor, known)} (there are {', '.join(known)})"
        )
    return module


def best_checkpoint(trainer: L.Trainer) -> str | None:
    """Path of the best checkpoint, or None where none was written."""
    callback: Any = trainer.checkpoint_callback
    return callback.best_model_path or None if isinstance(callback, ModelCheckpoint) else None


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


def epoch_of(checkpoint: str) -> int:
    """The epoch, from 0, in which a checkpoint was written."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"])
