"""Each use of private API, on the real thing: after an upgrade this says what broke."""

import signal

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryAUROC

from milforge.processes import lightning_private as private


class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.layer(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watch(L.Callback):
    """Notes what the functions say, in the hooks where they are used."""

    def __init__(self):
        self.epochs, self.batches, self.validates, self.checkpoint = [], [], [], None

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append(private.epochs_done(trainer))

    def on_train_batch_end(self, trainer, pl_module, *batch):
        self.batches.append(private.batches_done(trainer))
        self.validates.append(private.validates_next(trainer))

    def on_validation_start(self, trainer, pl_module):
        if self.checkpoint is None and not trainer.sanity_checking:
            self.checkpoint = private.checkpoint_before_validation(trainer)
            private.restore_handlers(trainer, {signal.SIGUSR1: signal.SIG_IGN})


def fit(folder, callbacks, ckpt_path=None, **options):
    module = Line()
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        **options,
    )
    data = DataLoader(torch.ones(4, 1))
    trainer.fit(module, data, DataLoader(torch.ones(2, 1)), ckpt_path=ckpt_path)
    return module, trainer


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*isinstance.treespec, LeafSpec.*",
    "ignore:.*your dataloader is not resumable.*",
)
def test_training_loops(tmp_path):
    watch = Watch()
    before = signal.getsignal(signal.SIGUSR1)
    try:
        module, trainer = fit(tmp_path, [watch], max_epochs=2, val_check_interval=2)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert watch.epochs == [0, 1]
    assert watch.batches == [1, 2, 3, 4] * 2
    assert watch.validates == [False, True] * 4
    assert private.attached_trainer(module) is trainer
    assert private.attached_trainer(Line()) is None
    # From the checkpoint a run goes on with the validation that was about to begin.
    path = tmp_path / "before_validation.ckpt"
    torch.save(watch.checkpoint, path)
    seen = []

    class Note(L.Callback):
        def on_validation_start(self, trainer, pl_module):
            seen.append(("validation", trainer.global_step))

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(("step", trainer.global_step))

    fit(tmp_path, [Note()], path, max_epochs=1, val_check_interval=2)
    assert seen == [("validation", 2), ("step", 2), ("step", 3), ("validation", 4)]


def test_wandb_logger(tmp_path):
    logger = WandbLogger(project="a", save_dir=tmp_path, offline=False)
    assert private.run_options(logger)["project"] == "a"
    assert not private.is_offline(logger)
    private.set_offline(logger, True)
    assert private.is_offline(logger)


def test_states_of_a_metric():
    assert list(private.state_names(BinaryAUROC(thresholds=5))) == ["confmat"]


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*isinstance.treespec, LeafSpec.*"
)
def test_a_checkpoint_is_taken_up_before_training_begins(tmp_path):
    told = []

    class Told(L.Callback):
        def load_state_dict(self, state_dict):
            raise KeyError("x")

        def on_train_start(self, trainer, pl_module):
            told.append(private.is_restoring(trainer))

        def state_dict(self):
            return {"a": 1}

    _, trainer = fit(tmp_path, [Told()], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert told == [False]
    again = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Told()],
    )
    data = DataLoader(torch.ones(4, 1))
    with pytest.raises(KeyError):
        again.fit(Line(), data, data, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert private.is_restoring(again)
    assert told == [False]
