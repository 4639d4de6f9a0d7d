"""The one place that touches private API: Lightning's, its W&B logger's, torchmetrics'.

Each function says what it is for and what public API lacks. After an upgrade
`tests/processes/test_lightning_private.py` says which of them broke.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger
from torchmetrics import Metric

Checkpoint = dict[str, Any]


def attached_trainer(module: L.LightningModule) -> L.Trainer | None:
    """The trainer of a module, None without one, where the public property raises."""
    trainer: L.Trainer | None = module._trainer
    return trainer


def epochs_done(trainer: L.Trainer) -> int:
    """Epochs that are over, in a run that goes on too, when its batches are first asked for.

    `current_epoch` is still that of the checkpoint then.
    """
    loop: Any = trainer.fit_loop
    return int(loop.epoch_progress.current.processed)


def batches_done(trainer: L.Trainer) -> int:
    """Batches of this epoch that training is done with; workers have read further ahead."""
    loop: Any = trainer.fit_loop.epoch_loop
    return int(loop.batch_progress.current.processed)


def validates_next(trainer: L.Trainer) -> bool:
    """Whether a validation follows on the batch that has just ended."""
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return bool(trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher))


def checkpoint_before_validation(trainer: L.Trainer) -> Checkpoint:
    """A whole checkpoint, in memory, from which a run goes on with the validation that begins now.

    Of a validation whose first batch has begun Lightning knows that it is to be done again.
    """
    checkpoint: Checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        for each in ("ready", "started"):
            counts[each] += 1
    return checkpoint


def is_restoring(trainer: L.Trainer) -> bool:
    """Whether a checkpoint is being taken up, or has failed to be; not so once training begins."""
    return bool(trainer._checkpoint_connector._loaded_checkpoint)


def restore_handlers(trainer: L.Trainer, handlers: Mapping[int, Any]) -> None:
    """Has Lightning put back these signal handlers, and not those that it found."""
    trainer._signal_connector._original_handlers.update(handlers)


def run_options(logger: WandbLogger) -> dict[str, Any]:
    """What the logger will call `wandb.init` with; may be changed before it does."""
    options: dict[str, Any] = logger._wandb_init
    return options


def is_offline(logger: WandbLogger) -> bool:
    """Whether the run is tracked on disk alone."""
    return bool(logger._offline)


def set_offline(logger: WandbLogger, offline: bool) -> None:
    """Has the run tracked on disk alone, or sent to W&B; before it begins."""
    logger._offline = offline


def state_names(metric: Metric) -> Iterable[str]:
    """The names of the states of a metric, in the order in which they were added."""
    names: Iterable[str] = metric._defaults
    return names
