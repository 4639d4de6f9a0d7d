"""The metric that chooses the epoch: which way is up, and whether its bags can say anything."""

import logging
import warnings
from contextlib import suppress

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from torch import Tensor

from milforge.api.learning import Learning
from milforge.metrics import build_metrics
from milforge.tasks import Task
from milforge.training import MILModule
from milforge.training.stage_metrics import StageMetrics

logger = logging.getLogger(__name__)

# With fewer validation bags, one bag more or less that is right is 5 points of accuracy.
FEW = 20


def check_mode(mode: str | None) -> None:
    """Checks `monitor_mode`.

    Raises:
        ValueError: where it is none of min, max and null.
    """
    if mode not in ("min", "max", None):
        raise ValueError(f"expected monitor_mode to be min, max or null, got {mode!r}")


def check_direction(config: DictConfig, task: Task, learning: Learning) -> None:
    """Checks that the metric that chooses the epoch says which way is up, before a bag is read.

    That there is such a metric is known with the network, which may log values of its own.

    Raises:
        ValueError: where neither the metric nor the config says so.
    """
    check_mode(config.monitor_mode)
    name = config.monitor or task.monitor
    metrics = build_metrics(task.metrics(), learning.metrics, task.input_names)
    if config.monitor_mode is None:
        with suppress(KeyError):
            StageMetrics(name.partition("/")[0], metrics).higher_is_better(name)


def check_defined(monitor: str, task: Task, learning: Learning, y: Tensor | None) -> None:
    """Checks that the labels allow the metric that chooses the epoch to have a value.

    It is tried on predictions drawn at random, because only the labels are known before training:
    AUROC of bags of one class is NaN, whatever is predicted.

    Args:
        monitor: the metric, with its stage.
        task: has seen the labels.
        learning: knows the metrics.
        y: `(n,)` or `(n, C)`, the labels of the part that the metric is of; None where unknown.

    Raises:
        ValueError: where it would be NaN, or is several values, one of which is to be named.
    """
    if y is None or not len(y):
        return
    stage = monitor.partition("/")[0]
    bags = build_metrics(task.metrics(), learning.metrics, task.input_names)
    metrics = StageMetrics(stage, bags, task.class_names)
    logits = torch.randn(len(y), task.num_outputs, generator=torch.Generator().manual_seed(0))
    values: dict[str, Tensor] = {}
    # A module of one's own may feed its metrics otherwise; what then fails here shows by itself.
    with suppress(Exception), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torchmetrics warns of what is said below
        columns = {**task.predict(logits), "logits": logits}
        metrics.update({"loss": torch.zeros(len(y))}, task.inputs(columns, task.target(y)), None)
        values = metrics.compute()
    value = values.get(monitor)
    several = [name for name in values if name.startswith(f"{monitor}_")]
    if value is None and several:
        raise ValueError(f"monitor={monitor} is several values: choose {' or '.join(several)}")
    if value is not None and value.isnan():
        raise ValueError(
            f"monitor={monitor} is not defined for the labels of the {stage} part "
            f"({_in_words(task, y)}), so it cannot choose an epoch: choose monitor=val/loss, or a "
            "split whose part has bags of every class"
        )


def _in_words(task: Task, y: Tensor) -> str:
    classes = task.classes(y)
    bags = "1 bag" if len(y) == 1 else f"{len(y)} bags"
    alike = classes is not None and classes.ndim == 1 and bool((classes == classes[0]).all())
    if classes is not None and alike and task.class_names:
        return f"{bags}, all {task.class_names[int(classes[0])]!r}"
    return bags


def with_monitor(config: DictConfig, module: MILModule) -> DictConfig:
    """The config with the metric that chooses the epoch, and which way is up, as they are.

    A config may leave both to the task and to the metric; what is built from it needs them.

    Raises:
        KeyError: where there is no such metric.
        ValueError: where neither the metric nor the config says which way is up.
    """
    filled = config.copy()
    filled.monitor = module.monitor
    if config.monitor_mode is None:
        filled.monitor_mode = "max" if module.higher_is_better(module.monitor) else "min"
    return filled


@rank_zero_only
def warn_of_few(trainer: L.Trainer, monitor: str, bags: int) -> None:
    """Warns where so few validation bags choose the epoch that they choose nearly by chance.

    Args:
        trainer: its callbacks choose.
        monitor: the metric, with its stage.
        bags: number of the validation bags.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    chooses = any(getattr(each, "monitor", None) == monitor for each in callbacks)
    if chooses and monitor.startswith("val/") and bags < FEW:
        logger.warning(
            "%d validation bags choose the epoch (monitor=%s), which is nearly by chance: give the "
            "validation part more of them (split.val_share), and report several seeds or folds",
            bags,
            monitor,
        )
