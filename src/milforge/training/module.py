"""Training and evaluation of a network that predicts the labels of bags, of any task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric

from milforge.metrics import build_metrics
from milforge.models import BagOutput
from milforge.tasks import Task
from milforge.training.fit_outputs import check_accumulation, fit_outputs
from milforge.training.freeze import freeze_parts
from milforge.training.loss.finite import check_monitor
from milforge.training.loss.step_loss import (
    Loss,
    auxiliary_loss,
    bag_losses,
    instance_losses,
    warn_without_classes,
    warn_without_instance_labels,
)
from milforge.training.loss.whole_loss import whole_loss
from milforge.training.predicting import Batch, Predicting
from milforge.training.predictions import BagPredictions, labelled_instances
from milforge.training.schedule import build_optimizer, step_schedulers
from milforge.training.seeds import draw_seed
from milforge.training.stage_metrics import StageMetrics


class MILModule(Predicting):
    """Fits a network to the labels of bags, or of large images.

    The loss of a step is the sum over the bags of `weight * loss`, over the number of bags of the
    global batch, all processes together; and the network's own penalty and auxiliary losses beside
    it. What a loss, a weight, a prediction and a metric is, the task says.

    A LightningModule of your own is a subclass, chosen by `module._target_`.

    Args:
        network: maps a batch to a `BagOutput`.
        task: what the labels mean; it has seen them.
        loss: `(logits (B, O), target) -> (B,)`; None: the task's own.
        metrics: metrics besides the task's own, by name; None leaves out the task's of that name.
        optimizer: builds the optimiser from the parameters.
        scheduler: builds the learning-rate scheduler from the optimiser; stepped every epoch.
        monitor: metric that a scheduler such as `ReduceLROnPlateau` looks at.
        stored: plain data kept in every checkpoint under `milforge`, enough to build the run
            again.
        seed: seed of all that is drawn at random.
        standardise: what is done to the features before the network sees them.
        freeze: parts of the network, such as `encoder`, that are not trained.
        instances: weight of the loss of the attention, `attention_supervision`, where the data have
            labels of instances; it is added to that of each bag.

    Raises:
        ValueError: for a part to freeze that the network has not, and as `build_metrics` does.
    """

    uses_coords = False  # of a batch; see milforge.training.data.used_coords

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        *,
        loss: Loss | None = None,
        metrics: Mapping[str, Metric | None] | None = None,
        optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        monitor: str = "val/loss",
        stored: Mapping[str, Any] | None = None,
        seed: int = 0,
        standardise: nn.Module | None = None,
        freeze: str | Sequence[str] | None = None,
        instances: float = 0.0,
    ) -> None:
        super().__init__(network, task, stored=stored, seed=seed, standardise=standardise)
        self.loss = loss if loss is not None else task.loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.monitor = monitor
        self.instances = instances
        self._labelled_instances = False  # whether this process has seen any
        self._frozen = freeze_parts(network, freeze)
        self.configured_metrics = dict(metrics or {})
        bags = build_metrics(task.metrics(), self.configured_metrics, task.input_names)
        self.train_metrics, self.val_metrics, self.test_metrics = (
            StageMetrics(
                stage, bags, task.class_names, self.logged, whole_loss(self.loss, task, stage)
            )
            for stage in ("train", "val", "test")
        )

    @cached_property
    def logged(self) -> tuple[str, ...]:
        """The details of the network's output whose mean over the bags is logged."""
        return tuple(getattr(self.network, "logged", ()))

    def higher_is_better(self, name: str) -> bool:
        """Which way is up for a metric of a stage, such as `val/auroc`.

        Raises:
            KeyError: where there is no such metric.
            ValueError: where it does not say.
        """
        stage = self.train_metrics if name.startswith("train/") else self.val_metrics
        return stage.higher_is_better(name)

    def train(self, mode: bool = True) -> "MILModule":
        """Frozen parts stay as they are in evaluation: no dropout, no statistics of batches."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

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
            ValueError: where it is not finite; names the bags. On a CPU no weights are changed by
                it; on a GPU it may be that of one of the last 32 steps, and none are saved.
        """
        batch = self.prepared(batch)
        output = self(batch)
        processes = self.trainer.world_size
        losses, target = self._losses(output.logits, batch, processes)
        weighted = losses * getattr(self.network, "loss_weight", 1.0)
        added = auxiliary_loss(
            self.network, self.task, self.loss, batch, output, target, processes=processes
        )
        if added is not None:
            weighted = weighted + added
        if self.instances:
            own = instance_losses(batch, output)
            self._labelled_instances |= own is not None
            weighted = weighted if own is None else weighted + self.instances * own
        mean_bags = self.loss_check.take(
            weighted,
            batch.bag_id,
            epoch=self.current_epoch,
            step=batch_idx,
            trainer=self.trainer,
        )
        self._measure(self.train_metrics, batch, output, losses, target)
        loss: Tensor = weighted.sum() / mean_bags
        if output.penalty is not None:
            # It may be a mean over the bags of this process.
            loss = loss + output.penalty * (len(batch) / mean_bags)
        return loss

    def on_train_epoch_end(self) -> None:
        """Logs the metrics of the training batches, and steps the scheduler.

        Here, because Lightning steps it after the epoch's checkpoint is written, and a run that
        goes on from that would lack the step.
        """
        self.loss_check.look(self.trainer.world_size)
        fit_outputs(self.task, self.train_metrics, self.trainer)  # where nothing is validated
        self._log(self.train_metrics)
        if self.instances and not self._labelled_instances:
            warn_without_instance_labels()
        step_schedulers(self.trainer, self.history.get(self.monitor, ()))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Nothing; see `on_train_epoch_end`."""

    def on_fit_start(self) -> None:
        """Checks that the steps of the optimiser are those of the batches.

        Raises:
            ValueError: where the loss is that of the whole batch, and gradients are accumulated.
        """
        super().on_fit_start()
        check_accumulation(self.task, self.trainer)

    def on_validation_start(self) -> None:
        """Has the task learn from the training bags, before others are predicted.

        Raises:
            ValueError: where the loss of some was not finite.
        """
        self.loss_check.look(self.trainer.world_size)
        fit_outputs(self.task, self.train_metrics, self.trainer)

    def validation_step(self, batch: Batch, batch_idx: int) -> BagPredictions:
        """Adds a batch to the validation metrics."""
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        self._log(self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> BagPredictions:
        """Adds a batch to the test metrics."""
        return self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics."""
        self._log(self.test_metrics)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, and a scheduler if there is one."""
        return build_optimizer(self.parameters(), self.optimizer, self.scheduler, self.monitor)

    def on_train_start(self) -> None:
        """Sets frozen parts to evaluation, and goes on where the run was interrupted.

        Here, because Lightning calls `train` after a validation, but not when training begins, and
        warns of parts that are in evaluation before.
        """
        for part in self._frozen:
            part.eval()
        warn_without_classes(self.network, self.task)
        super().on_train_start()

    def _evaluate(self, batch: Batch, metrics: StageMetrics) -> BagPredictions:
        batch = self.prepared(batch)
        output = self(batch)
        losses, target = self._losses(output.logits, batch)
        columns = self._measure(metrics, batch, output, losses, target)
        return self.predictions(batch, output, columns)

    def _losses(self, logits: Tensor, batch: Batch, processes: int = 1) -> tuple[Tensor, Tensor]:
        """`(B,)`, the weighted loss of each bag; and the labels as losses take them."""
        if batch.y is None:
            raise ValueError("expected labelled bags to train or evaluate, got bags without y")
        target = self.task.target(batch.y)
        return bag_losses(self.loss, self.task, logits, target, processes=processes), target

    def _measure(
        self, metrics: StageMetrics, batch: Batch, output: BagOutput, losses: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Adds a batch to the metrics of a stage; gives the columns of its bags."""
        columns = self.columns(output)
        kept = self.task.learns_from_outputs if self.training else self.task.whole_batch
        means = {"loss": losses, **{name: output.details[name] for name in self.logged}}
        metrics.update(
            {name: each.detach() for name, each in means.items()},
            self.task.inputs(columns, target),
            labelled_instances(batch, output, self.task),
            (columns["logits"], target) if kept else None,
        )
        return columns

    def _log(self, metrics: StageMetrics) -> None:
        values = metrics.compute()
        if self.trainer.sanity_checking:
            return
        fits = getattr(getattr(self.trainer, "state", None), "fn", "") == "fit"
        if fits and self.monitor.startswith(f"{metrics.stage}/"):
            before = self.history.get(self.monitor, ())
            check_monitor(self.monitor, values, [value for _, value in before])
        for name, value in values.items():
            self.history.setdefault(name, []).append((self.current_epoch, float(value)))
        # The values are those of all processes already.
        self.log_dict(values, sync_dist=False)
