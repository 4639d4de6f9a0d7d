"""The metric that a search goes by, and which way is up."""

from collections.abc import Sequence
from typing import Any

from hydra.utils import get_object

from milforge.config.keys.key_check import did_you_mean


def direction(metric: str | None, monitor: str | None, mode: str | None, *, _root_: Any) -> str:
    """Which way a search goes: as the metric that it goes by says of itself.

    Args:
        metric: `optimized_metric`.
        monitor: what chooses the epoch, which a search goes by where `metric` is None.
        mode: `monitor_mode`, which holds for the monitor.
        _root_: the config, whose task and metrics know their classes.

    Raises:
        ValueError: where there is no such metric, or it does not say which way is up.
    """
    task = _class_of(_root_.get("task"))
    own = monitor or _monitor_of(task)
    if mode in ("min", "max") and metric in (None, own):
        return f"{mode}imize"
    from milforge.metrics import LocalisationAUROC, LocalisationAveragePrecision, direction_of

    classes = {"inst_auroc": LocalisationAUROC, "inst_ap": LocalisationAveragePrecision}
    classes |= getattr(task, "metric_types", {})
    configured = (_root_.get("metrics") or {}).items()
    classes |= {str(name): _class_of(node) for name, node in configured if node is not None}
    try:
        return f"{direction_of(metric or own, classes)}imize"
    except ValueError as error:
        raise ValueError(
            f"{error} (hydra.sweeper.direction=minimize or maximize says it to the search)"
        ) from error


def goal(config: Any) -> str:
    """The metric that a search goes by: `optimized_metric`, else the monitor, else the task's."""
    named = config.get("optimized_metric") or config.get("monitor")
    return str(named or _monitor_of(_class_of(config.get("task"))))


def _monitor_of(task: Any) -> str:
    """What chooses the epoch where the config names nothing."""
    return str(getattr(task, "monitor", "val/loss"))


def _class_of(node: Any) -> Any:
    return get_object(node._target_) if node else None


def check_metric(metric: str | None, known: Sequence[str] | None = None) -> None:
    """Checks the metric that a search goes by.

    Args:
        metric: `optimized_metric`.
        known: the metrics of training and validation, as soon as they are known.

    Raises:
        ValueError: for a metric of the test, or one that does not exist.
    """
    if metric is None:
        return
    if metric.startswith("test/"):
        raise ValueError(
            f"expected optimized_metric to be a metric of validation, got {metric}: settings that "
            "are chosen by the test bags make the test meaningless; "
            f"choose optimized_metric=val/{metric.removeprefix('test/')}"
        )
    if known is not None and metric not in known:
        raise ValueError(
            "expected optimized_metric to be a metric of training or validation, got "
            f"{metric!r}{did_you_mean(metric, list(known))} (there are {', '.join(known)})"
        )
