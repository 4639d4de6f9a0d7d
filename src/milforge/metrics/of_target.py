"""A metric of one of several targets, each of which may lack some labels."""

import inspect
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, SumMetric
from torchmetrics.wrappers.abstract import WrapperMetric


class OfTarget(WrapperMetric):
    """Feeds a metric what is known of one target.

    `update` takes the inputs of all targets: those of this one are called `<name>/<argument>`, and
    `<name>/known` `(B,)` says which bags have a label. Where none has, the metric is NaN, though
    there are metrics (accuracy, F1) that are 0 of no bag.

    Args:
        name: of the target.
        metric: is fed by keyword.

    Example:
        >>> import torch
        >>> from milforge.metrics import MAE
        >>> metric = OfTarget("age", MAE())
        >>> y, known = torch.tensor([1.0, torch.nan]), torch.tensor([True, False])
        >>> metric.update(**{"age/preds": torch.zeros(2), "age/target": y, "age/known": known})
        >>> metric.compute()
        tensor(1.)
    """

    def __init__(self, name: str, metric: Metric) -> None:
        super().__init__()
        self.name = name
        self.metric = metric
        self.labelled = SumMetric()  # bags, of all processes

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """As the metric says."""
        return self.metric.higher_is_better

    def update(self, **inputs: Tensor) -> None:
        """Add the bags of a batch that have a label.

        Args:
            inputs: `(B, ...)` each, of all targets.
        """
        known = inputs[f"{self.name}/known"]
        self.labelled.update(known.sum())
        if not bool(known.any()):  # which not all metrics take
            return
        taken: Collection[str] = inspect.signature(self.metric.update).parameters
        self.metric.update(
            **{
                name: inputs[f"{self.name}/{name}"][known]
                for name in taken
                if f"{self.name}/{name}" in inputs
            }
        )

    def compute(self) -> Any:
        """What the metric gives, or NaN."""
        value, labelled = self.metric.compute(), self.labelled.compute()
        if labelled == 0 and isinstance(value, Tensor):
            return torch.full_like(value if value.is_floating_point() else value.float(), torch.nan)
        return value

    def reset(self) -> None:
        """Begins again."""
        super().reset()
        self.metric.reset()
        self.labelled.reset()
