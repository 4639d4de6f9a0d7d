"""The loss of a step: each bag's own, weighted by the task, and what the network adds."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import attention_supervision
from milforge.models import BagOutput
from milforge.processes.collectives import gather_rows
from milforge.tasks import Task
from milforge.training.predictions import attention_scores

# `(B, O)` logits and the target of the task to the loss of each bag, `(B,)`.
Loss = Callable[[Tensor, Tensor], Tensor]


def bag_losses(
    loss: Loss, task: Task, logits: Tensor, target: Tensor, *, processes: int = 1
) -> Tensor:
    """The loss of each bag, weighted.

    A loss that depends on the whole batch (`Task.whole_batch`) gets the logits and targets of all
    processes, with gradient; each keeps the losses of its own bags.

    Args:
        loss: maps logits and targets to losses.
        task: knows the weights.
        logits: `(B, O)`; half precision is made single.
        target: as `Task.target` gives it.
        processes: how many take part in the step.

    Returns:
        `(B,)`.

    Raises:
        ValueError: where the loss gives another shape, because one of `(B, B)` would be averaged
            without a word.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    mine = slice(None)
    everywhere, of_all = logits, target
    if task.whole_batch and processes > 1:
        everywhere, mine = gather_rows(logits)
        of_all, _ = gather_rows(target)
    losses = loss(everywhere, of_all)
    shapes = f"logits of shape {tuple(everywhere.shape)} and labels of shape {tuple(of_all.shape)}"
    _check_shape(f"loss of {shapes}", losses, len(everywhere))
    losses = losses[mine]
    weight = task.weight(target)
    return losses if weight is None else losses * weight


def check_loss(loss: Loss, task: Task, y: Tensor) -> None:
    """Tries a loss on the labels of two bags, before any bag is read.

    Args:
        loss: maps logits and targets to losses.
        task: has seen the labels.
        y: labels of the data set, `(n,)` or `(n, C)`.

    Raises:
        ValueError: where it gives no loss for each bag, or cannot take labels like these.
    """
    target = task.target(y[:2])
    logits = torch.zeros(len(target), task.num_outputs)
    try:
        loss(logits, target)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"loss: it cannot take logits of shape (B, {task.num_outputs}) and labels of dtype "
            f"{target.dtype} and shape {('B', *target.shape[1:])}, which the task "
            f"{type(task).__name__} gives ({str(error).splitlines()[0]}); choose loss=task, the "
            "task's own, or another"
        ) from error
    bag_losses(loss, task, logits, target)


def auxiliary_loss(
    network: nn.Module,
    task: Task,
    loss: Loss,
    batch: Any,
    output: BagOutput,
    target: Tensor,
    *,
    processes: int = 1,
) -> Tensor | None:
    """What a network adds to the loss of each bag.

    Further logits (`BagOutput.auxiliary`) are held to the labels of their bags: their losses are
    averaged within each bag, then weighted. A network that has a method
    `auxiliary_loss(batch, output, classes)` gives further losses `(B,)`; it is not asked where the
    logits are not those of classes.

    Args:
        network: may have that method.
        task: knows the classes and the weights of the bags.
        loss: maps logits and targets to losses, as it does for the bags' own logits.
        batch: what the network has seen.
        output: its output.
        target: as `Task.target` gives it.
        processes: how many take part in the step.

    Returns:
        `(B,)`; None where nothing is added.

    Raises:
        ValueError: where the method gives another shape, and as `bag_losses` does.
    """
    added: list[Tensor] = []
    for logits, bag, weight in output.auxiliary:
        each = bag_losses(loss, task, logits, target[bag], processes=processes)
        sums = each.new_zeros(len(target)).index_add(0, bag, each)
        # Not by `bincount`, which waits for a device to know the largest number.
        counts = each.new_zeros(len(target)).index_add(0, bag, torch.ones_like(each)).clamp(min=1)
        added.append(weight * sums / counts)
    own = getattr(network, "auxiliary_loss", None)
    classes = task.classes(batch.y) if own is not None and _of_classes(task) else None
    if own is not None and classes is not None:
        losses = own(batch, output, classes)
        _check_shape("auxiliary_loss of the network", losses, len(target))
        added.append(losses)
    return torch.stack(added).sum(0) if added else None


def warn_without_classes(network: nn.Module, task: Task) -> None:
    """Warns where a network has an `auxiliary_loss`, which the task has no classes for."""
    if hasattr(network, "auxiliary_loss") and not _of_classes(task):
        rank_zero_warn(
            f"{type(network).__name__} has a loss of its own that needs a logit for each class, "
            f"and the task {type(task).__name__} has none: it is trained without"
        )


def _of_classes(task: Task) -> bool:
    """Whether there is a logit for each class, or one for two; grades have one less, or one."""
    classes = len(task.class_names)
    return classes > 0 and classes == (2 if task.num_outputs == 1 else task.num_outputs)


def warn_without_instance_labels() -> None:
    """Warns where `instance_losses` are asked for, and no bag has labels of instances."""
    rank_zero_warn(
        "loss.instances has no effect: no bag of the training part has labels of instances"
    )


def instance_losses(batch: Any, output: BagOutput) -> Tensor | None:
    """The loss of the attention of each bag that looks elsewhere than at positive instances.

    Of several classes, that of the class which is shown; see `BagOutput.scores_of`.

    Returns:
        `(B,)`; None where no bag has labels of instances.

    Raises:
        ValueError: where the network gives no attention scores.
    """
    if output.scores is None:
        raise ValueError(
            "loss.instances: expected a model that attends, and this one gives no scores: choose "
            "loss.instances=0, or a model with attention, such as model=gated_abmil"
        )
    if not isinstance(batch, BagBatch) or batch.y_inst is None:
        return None
    heads = output.scores_of == "heads"
    scores = output.scores if heads else attention_scores(batch, output)
    assert scores is not None
    return attention_supervision(scores, batch.y_inst, batch.ptr)


def _check_shape(what: str, losses: Any, bags: int) -> None:
    if not isinstance(losses, Tensor) or losses.shape != (bags,):
        got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f"{what}: expected a loss for each bag, of shape ({bags},), got {got}; reduce it over "
            "the outputs, not over the bags (reduction='none')"
        )
