"""Training and evaluation of a network that classifies: what bags and large images share."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

from milforge.data import BagBatch, ImageBatch, Task
from milforge.metrics import bag_metrics
from milforge.training.callback_states import adapt_states, is_own
from milforge.training.predictions import BagPredictions
from milforge.training.processes import check_same_step, gathered
from milforge.training.seeds import draw_seed
from milforge.training.stage_metrics import Seen, StageMetrics

Batch = TypeVar("Batch", bound=BagBatch | ImageBatch)


class Classification(L.LightningModule, Generic[Batch]):
    """Fits a network to the labels of bags.

    The loss of a batch is the sum of the bags' losses over the number of bags, over all
    processes: binary cross-entropy (binary, multilabel) or cross-entropy (multiclass), each bag
    weighted by its class where `class_weights` are given, plus the network's own penalty.

    A subclass says in `predictions` what to tell of each bag, and in `measure` what to measure.

    Args:
        network: maps a batch to an output with `logits` and `penalty`.
        task: binary, multiclass or multilabel.
        class_names: one name a class; two for a binary task, negative first.
        optimizer: builds the optimiser from the parameters.
        scheduler: builds the learning-rate scheduler from the optimiser; stepped every epoch.
        monitor: metric that a scheduler such as `ReduceLROnPlateau` looks at.
        class_weights: `(C,)`, or `(C, 2)` for a multilabel task; see
            `ClassificationDataModule.class_weights`.
        stored: plain data kept in every checkpoint under `milforge`, enough to build the run
            again.
        seed: of what the network draws at random, where it does.
        standardise: what is done to the features before the network sees them.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        class_names: Sequence[str],
        *,
        optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        monitor: str = "val/loss",
        class_weights: Tensor | None = None,
        stored: Mapping[str, Any] | None = None,
        seed: int = 0,
        standardise: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.standardise = standardise
        self.task = task
        self.class_names = tuple(class_names)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.monitor = monitor
        self.stored = dict(stored or {})
        self.seed = seed
        self.history: dict[str, list[tuple[float, float]]] = {}
        self._seen: list[Seen] = []
        self._begins_at = 0
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        metrics = bag_metrics(task, len(self.class_names))
        self.train_metrics = StageMetrics("train", metrics, task, self.means)
        self.val_metrics = StageMetrics("val", metrics, task, self.means)
        self.test_metrics = StageMetrics("test", metrics, task, self.means)

    @property
    def means(self) -> tuple[str, ...]:
        """Names of the stage's metrics besides the loss and those of bags and instances."""
        return ()

    @abstractmethod
    def measure(self, metrics: StageMetrics, batch: Batch, output: Any, losses: Tensor) -> None:
        """Adds a batch to the metrics of a stage."""

    @abstractmethod
    def predictions(self, batch: Batch, output: Any) -> BagPredictions:
        """What is told of the bags of a batch."""

    def prepared(self, batch: Batch) -> Batch:
        """The batch as the network is to see it."""
        return batch

    def forward(self, batch: Batch) -> Any:
        """The network's output."""
        return self.network(batch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds what is drawn at random in this step, such as dropout.

        It depends on seed, epoch, step and process alone, so a run that goes on after a pause draws
        what it would have drawn without.
        """
        key = f"{self.seed} {self.current_epoch} {batch_idx} {self.global_rank}"
        torch.manual_seed(draw_seed(key))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            ValueError: where it is not finite; names the bags. No weights are changed by it.
        """
        batch = self.prepared(batch)
        output = self(batch)
        losses = self._losses(output.logits, batch)
        mean_bags, unbounded = self._over_processes(losses)
        if unbounded:
            raise self._not_finite(losses, batch, batch_idx)
        self.measure(self.train_metrics, batch, output, losses)
        loss: Tensor = losses.sum() / mean_bags
        if output.penalty is not None:
            # It may be a mean over the bags of this process.
            loss = loss + output.penalty * (len(batch) / mean_bags)
        return loss

    def on_train_epoch_end(self) -> None:
        """Logs the metrics of the training batches, and steps the scheduler.

        Here, because Lightning steps it after the epoch's checkpoint is written, and a run that
        goes on from that would lack the step.
        """
        self._log(self.train_metrics)
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
                continue
            epoch, value = self.history.get(self.monitor, [(-1, 0.0)])[-1]
            if epoch == self.current_epoch:
                scheduler.step(value)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Nothing; see `on_train_epoch_end`."""

    def validation_step(self, batch: Batch, batch_idx: int) -> BagPredictions:
        """Adds a batch to the validation metrics."""
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        self._log(self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> BagPredictions:
        """Adds a batch to the test metrics."""
        return self._evaluate(batch, self.test_metrics)

    def on_test_start(self) -> None:
        """Forgets the place in the epoch of the checkpoint that is tested."""
        self._seen = []

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics."""
        self._log(self.test_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> BagPredictions:
        """Probabilities and attention of a batch, which may have no labels."""
        batch = self.prepared(batch)
        return self.predictions(batch, self(batch))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, and a scheduler if there is one."""
        if self.optimizer is None:
            raise ValueError("expected an optimizer to train with, got none")
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        scheduler: dict[str, Any] = {"scheduler": self.scheduler(optimizer)}
        # Not strict: there may be epochs without validation; see `on_train_epoch_end`.
        scheduler |= {"monitor": self.monitor, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps in the checkpoint what is needed to build the run again, and its history.

        Raises:
            ValueError: where weights are not finite, from which no run could go on.
        """
        if not all(bool(each.isfinite().all()) for each in self.parameters()):
            raise ValueError(
                f"the weights are not finite in epoch {self.current_epoch}; the checkpoints are of "
                "before: lower optimizer.lr, set trainer.gradient_clip_val or "
                "trainer.precision=32-true"
            )
        mine = {name: value.cpu() for name, value in self.train_metrics.seen().items()}
        seen = gathered(mine, 1 if self._trainer is None else self.trainer.world_size)
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
        trainer: Any = self._trainer
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

        A run that had stopped early stays so: of that no checkpoint tells.
        """
        trainer: Any = self.trainer
        for callback in trainer.callbacks:
            if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                trainer.should_stop = True
        seen = [{name: each.to(self.device) for name, each in one.items()} for one in self._seen]
        self.train_metrics.see_again(seen, self.global_rank, self.trainer.world_size)
        self._seen = []

    def probabilities(self, logits: Tensor) -> Tensor:
        """`(B,)` of the positive class (binary), else `(B, C)`, float32."""
        logits = logits.detach().float()
        return logits.softmax(1) if self.task == "multiclass" else logits.sigmoid()

    def _evaluate(self, batch: Batch, metrics: StageMetrics) -> BagPredictions:
        batch = self.prepared(batch)
        output = self(batch)
        predictions = self.predictions(batch, output)
        self.measure(metrics, batch, output, self._losses(output.logits, batch))
        return predictions

    def _losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """`(B,)`, the loss of each bag, weighted by its class."""
        y = batch.y
        if y is None:
            raise ValueError("expected labelled bags to train or evaluate, got bags without y")
        logits, weights = logits.float(), self.class_weights
        if self.task == "multiclass":
            losses = F.cross_entropy(logits, y, reduction="none")
            return losses if weights is None else losses * weights[y]
        losses = F.binary_cross_entropy_with_logits(logits, y.float(), reduction="none")
        if self.task == "binary":
            return losses if weights is None else losses * weights[y]
        if weights is not None:
            losses = losses * torch.where(y == 1, weights[:, 1], weights[:, 0])
        return losses.mean(1)

    def _over_processes(self, losses: Tensor) -> tuple[Tensor | int, bool]:
        """Of a step: its bags a process, on average, and whether any loss is not finite.

        The average, because gradients are averaged over the processes.
        """
        unbounded = (~losses.isfinite()).sum()
        if self.trainer.world_size == 1:
            return len(losses), bool(unbounded)
        here = torch.stack([unbounded.new_tensor(len(losses)), unbounded]).float()
        means = self.trainer.strategy.reduce(here)
        assert isinstance(means, Tensor)
        return means[0], bool(means[1])

    def _not_finite(self, losses: Tensor, batch: Batch, batch_idx: int) -> ValueError:
        """The error of all processes, whichever of them has the bags."""
        finite = losses.isfinite().tolist()
        bags = [name for name, good in zip(batch.bag_id, finite, strict=True) if not good]
        bags = list(chain.from_iterable(gathered(bags, self.trainer.world_size)))
        return ValueError(
            f"the loss is not finite in epoch {self.current_epoch}, step {batch_idx}, of "
            f"{', '.join(map(repr, bags))}; the checkpoints are of before: look at these bags, or "
            "lower optimizer.lr, set trainer.gradient_clip_val or trainer.precision=32-true"
        )

    def _log(self, metrics: StageMetrics) -> None:
        values = metrics.compute()
        if self.trainer.sanity_checking:
            return
        for name, value in values.items():
            self.history.setdefault(name, []).append((self.current_epoch, float(value)))
        # The values are those of all processes already.
        self.log_dict(values, sync_dist=False)
