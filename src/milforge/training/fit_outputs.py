"""What a task learns from the outputs of the network, and what its loss asks of the trainer."""

import lightning as L
import torch

from milforge.processes.collectives import gathered
from milforge.tasks import Task
from milforge.training.stage_metrics import StageMetrics


def fit_outputs(task: Task, metrics: StageMetrics, trainer: L.Trainer) -> None:
    """Has the task learn from what was said of the training bags of this epoch, of all processes.

    Args:
        task: says whether it does (`Task.learns_from_outputs`).
        metrics: of the training batches, which keep the outputs then.
        trainer: the trainer of the run.
    """
    if not task.learns_from_outputs or trainer.sanity_checking:
        return
    seen = metrics.outputs()
    here = None if seen is None else [each.cpu() for each in seen]
    parts = [each for each in gathered(here, trainer.world_size) if each is not None]
    if parts:
        device = trainer.strategy.root_device
        logits, target = (torch.cat(each).to(device) for each in zip(*parts, strict=True))
        task.fit_outputs(logits, target)


def check_accumulation(task: Task, trainer: L.Trainer) -> None:
    """Checks that the steps of the optimiser are those of the batches.

    Raises:
        ValueError: where the loss is that of the whole batch, and gradients are accumulated.
    """
    if not task.whole_batch:
        return
    accumulated = trainer.accumulate_grad_batches
    if accumulated > 1:
        raise ValueError(
            f"trainer.accumulate_grad_batches={accumulated}: the loss of the task "
            f"{type(task).__name__} is that of a whole batch, which adding up gradients of parts "
            "does not give: leave it 1, and raise loader.batch_size"
        )
