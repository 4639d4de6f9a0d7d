"""A metric of one of several targets, each of which may lack some labels."""

import inspect
from collections.abc import Collection
from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric


class OfTarget(WrapperMetric):
    """Feeds a metric what is known of one target.

    `update` takes the inputs of all targets: those of this one are called `<name>/<argument>`, and
    `<name>/known` `(B,)` says which bags have a label.

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
        """What the metric gives."""
        return self.metric.compute()

    def reset(self) -> None:
        """Begins again."""
        super().reset()
        self.metric.reset()
