"""What a checkpoint keeps of a run besides weights, and how a run goes on from it."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

from milforge.processes.collectives import check_same_step, gathered
from milforge.processes.lightning_private import attached_trainer
from milforge.runs.callback_states import adapt_states, is_own
from milforge.training.loss.finite import LossCheck, check_weights
from milforge.training.stage_metrics import Seen, StageMetrics


class Resumable(L.LightningModule):
    """A LightningModule whose run goes on from a checkpoint as if it had not been interrupted.

    Args:
        stored: plain data kept in every checkpoint under `milforge`.

    Attributes:
        history: the values of each metric, as pairs of epoch and value.
        loss_check: of the losses of the training steps.
        train_metrics: what is measured of the training batches; to be set by the subclass.
    """

    train_metrics: StageMetrics

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.stored = dict(stored or {})
        self.history: dict[str, list[tuple[float, float]]] = {}
        self.loss_check = LossCheck()
        self._seen: list[Seen] = []
        self._begins_at = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps in the checkpoint what is needed to build the run again, and its history.

        Raises:
            ValueError: where weights, or losses of steps before, are not finite: no run could go on
                from them.
        """
        trainer = attached_trainer(self)
        world_size = 1 if trainer is None else trainer.world_size
        self.loss_check.look(world_size)
        check_weights(self.parameters(), self.current_epoch)
        mine = {name: value.cpu() for name, value in self.train_metrics.seen().items()}
        seen = gathered(mine, world_size)
        history = {name: list(points) for name, points in self.history.items()}
        checkpoint["milforge"] = {**self.stored, "history": history, "seen": seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the history of a run that goes on, and its place inside the epoch.

        Of another run's checkpoint neither history nor what callbacks know is taken up: its best
        score, or the patience that it has lost, say nothing of this one's data.
        """
        self._begins_at = checkpoint.get("global_step", 0)
        kept = checkpoint.get("milforge", {})
        self._seen = kept.get("seen", [])
        trainer: Any = attached_trainer(self)
        if trainer is None or is_own(trainer.ckpt_path, trainer.callbacks):
            self.history = kept.get("history", {})
            if trainer is not None:
                adapt_states(checkpoint.get("callbacks", {}), trainer.callbacks)
        else:
            self.history = {}
            checkpoint["callbacks"] = {}

    def on_fit_start(self) -> None:
        """Checks that all processes begin at the same step.

        Raises:
            ValueError: where some found a checkpoint that others do not see.
        """
        check_same_step(self._begins_at, self.trainer.world_size)

    def on_train_start(self) -> None:
        """Goes on with the metrics of the epoch in which the run was interrupted.

        A run that had stopped early stays stopped: no checkpoint says so.
        """
        trainer: Any = self.trainer
        for callback in trainer.callbacks:
            if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                trainer.should_stop = True
        seen = [{name: each.to(self.device) for name, each in one.items()} for one in self._seen]
        self.train_metrics.see_again(seen, self.global_rank, self.trainer.world_size)
        self._seen = []

    def on_test_start(self) -> None:
        """Forgets the place in the epoch of the checkpoint that is tested."""
        self._seen = []
