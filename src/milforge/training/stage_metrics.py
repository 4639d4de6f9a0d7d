"""What is measured in one stage: train, val or test."""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection

from milforge.data import BagBatch, Task
from milforge.metrics import LocalisationAUROC, LocalisationAveragePrecision


class StageMetrics(nn.Module):
    """Loss weighted by bags, metrics of the bags, localisation of the positive instances.

    Args:
        stage: prefix of the names.
        bags: the metrics of the bags; cloned.
        task: decides which bags count as positive.
    """

    def __init__(self, stage: str, bags: MetricCollection, task: Task) -> None:
        super().__init__()
        self.stage = stage
        self.task = task
        self.loss = MeanMetric(nan_strategy="disable")  # a loss that diverged must show
        self.bags = bags.clone(prefix=f"{stage}/")
        self.instances = MetricCollection(
            {"inst_auroc": LocalisationAUROC(), "inst_ap": LocalisationAveragePrecision()},
            prefix=f"{stage}/",
        )

    @property
    def names(self) -> list[str]:
        """All names under which there may be a value."""
        return [f"{self.stage}/loss", *map(str, self.bags), *map(str, self.instances)]

    def update(
        self, batch: BagBatch, loss: Tensor, probabilities: Tensor, scores: Tensor | None
    ) -> None:
        """Adds a batch: mean loss over its bags, probabilities, attention scores."""
        assert batch.y is not None
        self.loss.update(loss.detach(), len(batch))
        self.bags.update(probabilities, batch.y)
        if scores is not None and batch.y_inst is not None:
            if self.task == "binary":
                positive = batch.y == 1
            else:
                positive = torch.ones(len(batch), dtype=torch.bool, device=scores.device)
            self.instances.update(scores, batch.y_inst, batch.ptr, positive)

    def compute(self) -> dict[str, Tensor]:
        """All values over all processes, by name; and begins anew."""
        values = {f"{self.stage}/loss": self.loss.compute(), **self.bags.compute()}
        # Nothing here may depend on what one process alone has seen: a collective would hang.
        with warnings.catch_warnings():
            # A pooling without attention never updates them, and that is no mistake.
            warnings.filterwarnings("ignore", message=".*called before the ``update`` method.*")
            instances = self.instances.compute()
        values |= {name: value for name, value in instances.items() if not value.isnan()}
        for metric in (self.loss, self.bags, self.instances):
            metric.reset()
        return values
