"""The metrics of a run: those of its task, and those that a config adds or takes away."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from torch import Tensor
from torchmetrics import Metric, MetricCollection

Direction = Literal["min", "max"]

_NO_VALUE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def build_metrics(
    task_metrics: Mapping[str, Metric],
    configured: Mapping[str, Metric | None],
    inputs: Collection[str],
) -> MetricCollection:
    """The task's own metrics and the configured ones together.

    They are to be fed by keyword. Those that keep all predictions share one copy of them.

    Args:
        task_metrics: the task's own, by name.
        configured: what a config adds, or puts in place of the task's own of that name; None
            takes that away.
        inputs: the names of the arguments that the task feeds.

    Raises:
        ValueError: where a metric to be taken away is not there, or one cannot be fed.

    Example:
        >>> from milforge.metrics import MAE, RMSE
        >>> own = {"mae": MAE(), "rmse": RMSE()}
        >>> list(build_metrics(own, {"rmse": None}, ["preds", "target"]))
        ['mae']
    """
    metrics = dict(task_metrics)
    for name, metric in configured.items():
        if metric is not None:
            _check_inputs(name, metric, inputs)
            metrics[name] = metric
        elif name in task_metrics:
            del metrics[name]
        else:
            raise ValueError(
                f"expected a metric of the task to take away by metrics.{name}=null, got "
                f"{name!r}: it has {', '.join(task_metrics)}"
            )
    # Given, not found out at the first update: a process that never has one needs them too.
    groups: dict[Any, list[str]] = {}
    for name, metric in metrics.items():
        key = getattr(metric, "keeps", ("alone", name))
        groups.setdefault(key, []).append(name)
    # Those that share go first, so that wrong shapes get their error.
    ordered = sorted(groups.values(), key=lambda names: -len(names))
    return MetricCollection(dict(metrics), compute_groups=ordered)


def named_values(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Tensor]:
    """Single values, as they are logged.

    Args:
        values: what a collection computes: name to 0-dim, or to `(K,)` values.
        names: of the classes. K values that are not one a class are numbered.

    Returns:
        Name to 0-dim; the values of a vector are called `name_<class>`, that of a vector of one
        `name`.

    Raises:
        ValueError: for what is neither.

    Example:
        >>> import torch
        >>> list(named_values({"val/recall": torch.ones(2), "val/f1": torch.ones(())}, ["a", "b"]))
        ['val/recall_a', 'val/recall_b', 'val/f1']
    """
    single: dict[str, Tensor] = {}
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.ndim > 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"expected the metric {name} to give one value, or one a class, got {shape}"
            )
        if value.numel() == 1:
            single[name] = value.reshape(())
            continue
        each = names if len(names) == len(value) else range(len(value))
        single |= {f"{name}_{part}": one for part, one in zip(each, value.unbind(), strict=True)}
    return single


def higher_is_better(metric: Metric | type[Metric]) -> bool:
    """Whether a metric is the better the higher it is.

    Raises:
        ValueError: where it does not say.

    Example:
        >>> from torchmetrics.regression import MeanSquaredError
        >>> higher_is_better(MeanSquaredError())
        False
    """
    stated = metric.higher_is_better
    if isinstance(stated, bool):
        return stated
    name = metric.__name__ if isinstance(metric, type) else type(metric).__name__
    raise ValueError(
        f"expected {name} to say whether higher is better, got nothing: set monitor_mode=min or "
        "monitor_mode=max"
    )


def direction_of(name: str, classes: Mapping[str, type[Metric]]) -> Direction:
    """Which way a logged metric is better, before any data are read.

    Args:
        name: as it is logged, such as `val/auroc`, or `val/auroc_<class>` of one class.
        classes: the classes of all metrics but the loss, by name without the stage.

    Raises:
        ValueError: where there is no such metric, or it does not say.

    Example:
        >>> from milforge.metrics import MacroAUROC
        >>> direction_of("val/loss", {}), direction_of("val/auroc", {"auroc": MacroAUROC})
        ('min', 'max')
    """
    bare = name.partition("/")[2] or name
    if bare == "loss":
        return "min"
    # A class may be called as another metric ends, so the longest name that fits is it.
    fitting = [known for known in classes if bare == known or bare.startswith(f"{known}_")]
    if not fitting:
        known = ["loss", *classes]
        close = get_close_matches(bare, known, 1)
        raise ValueError(
            f"expected one of the metrics {', '.join(known)}, got {name!r}"
            + (f": did you mean {close[0]!r}?" if close else "")
        )
    return "max" if higher_is_better(classes[max(fitting, key=len)]) else "min"


def missing_options(
    target: Callable[..., Any], given: Collection[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known about the task, as far as a metric takes it and the config does not give it.

    Args:
        target: the class of the metric.
        given: the names of the arguments that the config gives.
        options: `Task.metric_options`.

    Example:
        >>> from torchmetrics.classification import MulticlassAccuracy
        >>> missing_options(MulticlassAccuracy, ["top_k"], {"task": "multiclass", "num_classes": 3})
        {'num_classes': 3}
    """
    wanted = inspect.signature(target).parameters
    return {name: each for name, each in options.items() if name in wanted and name not in given}


def _check_inputs(name: str, metric: Metric, inputs: Collection[str]) -> None:
    needed = [
        each.name
        for each in inspect.signature(metric.update).parameters.values()
        if each.default is inspect.Parameter.empty and each.kind not in _NO_VALUE
    ]
    lacking = [each for each in needed if each not in inputs]
    if lacking:
        raise ValueError(
            f"expected metrics.{name} to need of {', '.join(inputs)} what its task feeds it, got "
            f"{type(metric).__name__}, which needs {', '.join(lacking)} too"
        )
