"""How a task is learnt, as a config says: the LightningModule, the loss and the metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import cast

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torchmetrics import Metric

from milforge.api.build import class_of, make
from milforge.config.keys.key_check import check_complete
from milforge.metrics import build_metrics, missing_options
from milforge.tasks import Task
from milforge.training import MILModule
from milforge.training.loss.step_loss import Loss, check_loss

# What is logged of every stage, whatever the task.
MEASURED = ("loss", "inst_auroc", "inst_ap")


@dataclass(frozen=True)
class Learning:
    """What a config says of how a task is learnt, checked against the labels.

    Args:
        build: builds the LightningModule.
        loss: the loss of each bag; None: the task's own.
        instances: weight of the loss of the attention.
        metrics: metrics beside the task's own, by name; None takes the task's of that name away.
    """

    build: Callable[..., MILModule]
    loss: Loss | None
    instances: float
    metrics: dict[str, Metric | None]


def make_learning(config: DictConfig, task: Task, labels: Tensor | None) -> Learning:
    """What a config says of how a task is learnt. What is wrong is an error before a bag is read.

    Args:
        config: of the run.
        task: has seen the labels.
        labels: some labels that the loss is tried on; None where there are none.

    Raises:
        ValueError: where the module, the loss or a metric is none, or does not fit the task; the
            message names the key.
    """
    build = module_builder(config)
    metrics = make_metrics(config, task)
    build_metrics(task.metrics(), metrics, task.input_names)
    loss = make_loss(config, task, labels)
    return Learning(build, loss, instance_weight(config), metrics)


def instance_weight(config: DictConfig) -> float:
    """`loss.instances`, the weight of the loss of the attention.

    Raises:
        ValueError: where it is no number from 0 on.
    """
    weight = (config.loss or {}).get("instances", 0.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < inf:
        raise ValueError(f"loss.instances: expected a number from 0 on, got {weight!r}")
    return float(weight)


def make_metrics(config: DictConfig, task: Task) -> dict[str, Metric | None]:
    """The metrics of a config; what they need to know of the task, such as its classes, is given.

    Raises:
        ValueError: where one is no metric, or needs a value that neither config nor task gives.
    """
    metrics: dict[str, Metric | None] = {}
    for name, node in (config.metrics or {}).items():
        if name in MEASURED:
            raise ValueError(
                f"metrics.{name}: every run measures {name} itself; give the metric another name"
            )
        if node is None:
            metrics[str(name)] = None
            continue
        if not isinstance(node, DictConfig) or "_target_" not in node:
            raise ValueError(f"metrics.{name}: expected a _target_, the class of a metric, or null")
        target = get_object(node._target_)
        given = missing_options(target, node, task.metric_options())
        check_complete(f"metrics.{name}", {**node, **given})
        metric = make(node, **given)
        if not isinstance(metric, Metric):
            raise ValueError(
                f"metrics.{name}._target_: expected a torchmetrics.Metric, got {node._target_}"
            )
        metrics[str(name)] = metric
    return metrics


def make_loss(config: DictConfig, task: Task, labels: Tensor | None) -> Loss | None:
    """The loss of a config, tried on some labels; None where it is the task's own.

    Raises:
        ValueError: where it cannot be called, does not return a loss for each bag, or cannot take
            such labels.
    """
    node = {key: each for key, each in (config.loss or {}).items() if key != "instances"}
    if not node:
        return None
    loss: Loss = make(OmegaConf.create(node))
    if not callable(loss):
        raise ValueError(
            "loss._target_: expected a function of logits and labels, or a module, got "
            f"{config.loss._target_}"
        )
    if labels is not None and len(labels):
        weighted = getattr(task, "class_weights", None) is not None
        if weighted and task.weight(task.target(labels[:1])) is None:
            raise ValueError(
                "task.class_weights: this task weighs each label inside its own loss, which "
                f"{config.loss._target_} replaces; choose loss=task, or task.class_weights=null"
            )
        check_loss(loss, task, labels)
    return loss


def module_builder(config: DictConfig) -> Callable[..., MILModule]:
    """Builds the LightningModule of a config.

    Raises:
        ValueError: where the target is none of ours.
    """
    build = make(config.module) if config.module else MILModule
    kind = class_of(build)
    if not (isinstance(kind, type) and issubclass(kind, MILModule)):
        raise ValueError(
            "module: expected _target_ to name a subclass of milforge.training.MILModule and "
            f"_partial_: true, got {config.module._target_}"
        )
    return cast(Callable[..., MILModule], build)
