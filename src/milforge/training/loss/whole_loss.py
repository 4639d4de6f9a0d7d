"""The loss of all bags of a part at once, where that of a bag depends on the others."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from milforge.tasks import Task
from milforge.training.loss.step_loss import Loss


class WholeLoss(Metric):
    """The mean loss of all bags of an epoch, which are given to the loss together.

    A mean over batches would depend on how the bags were dealt into batches and processes.

    Args:
        loss: maps logits `(n, O)` and labels `(n, C)` to losses `(n,)`.
        outputs: O.
    """

    higher_is_better = False
    full_state_update = False

    logits: list[Tensor]
    target: list[Tensor]

    def __init__(self, loss: Loss, outputs: int) -> None:
        super().__init__()
        self._loss = (loss,)  # one that is a module is no part of this one
        self.outputs = outputs
        # Flat, so that a process without a bag stands in with the empty tensor of torchmetrics.
        for name in ("logits", "target"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Adds the bags of a batch.

        Args:
            logits: `(B, O)`.
            target: `(B, C)` float.
        """
        self.logits.append(logits.detach().flatten().to(self.dtype))
        self.target.append(target.flatten().to(self.dtype))

    def compute(self) -> Tensor:
        """The mean loss, 0-dim; NaN without bags."""
        nothing = torch.full((), torch.nan, device=self.device)
        if not len(self.logits):
            return nothing
        logits = dim_zero_cat(self.logits).view(-1, self.outputs)
        if not len(logits):
            return nothing
        (loss,) = self._loss
        losses: Tensor = loss(logits, dim_zero_cat(self.target).view(len(logits), -1))
        return losses.mean()


def whole_loss(loss: Loss, task: Task, stage: str) -> WholeLoss | None:
    """What measures the loss of a stage; None where it is the mean of what the steps gave.

    Args:
        loss: of the bags.
        task: says whether the loss of a bag depends on the others (`Task.whole_batch`).
        stage: train, whose loss is always that of the steps; val or test.
    """
    return WholeLoss(loss, task.num_outputs) if task.whole_batch and stage != "train" else None
