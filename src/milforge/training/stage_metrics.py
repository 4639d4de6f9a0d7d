"""What is measured in one stage: train, val or test."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchmetrics import MeanMetric, MetricCollection

from milforge.data import BagBatch, Task
from milforge.metrics import LocalisationAUROC, LocalisationAveragePrecision

# Instances that may wait to be measured: enough for thousands of small bags, little memory.
_MOST_WAITING = 2**18


class _Measured(NamedTuple):
    """What the metrics take of a batch."""

    losses: Tensor
    probabilities: Tensor
    y: Tensor
    scores: Tensor | None
    y_inst: Tensor | None
    sizes: Tensor


class StageMetrics(nn.Module):
    """Mean loss of the bags, metrics of the bags, localisation of the positive instances.

    Batches wait and are measured many at once: an update of all metrics costs a millisecond,
    as much as the step of a small network itself.

    Args:
        stage: prefix of the names.
        bags: the metrics of the bags; cloned.
        task: decides which bags count as positive.
    """

    def __init__(self, stage: str, bags: MetricCollection, task: Task) -> None:
        super().__init__()
        self.stage = stage
        self.task = task
        # A loss that diverged must show. (So set, the metric takes no weights: one value a bag.)
        self.loss = MeanMetric(nan_strategy="disable")
        self.bags = bags.clone(prefix=f"{stage}/")
        self.instances = MetricCollection(
            {"inst_auroc": LocalisationAUROC(), "inst_ap": LocalisationAveragePrecision()},
            prefix=f"{stage}/",
        )
        self._waiting: list[_Measured] = []
        self._waiting_instances = 0

    @property
    def names(self) -> list[str]:
        """All names under which there may be a value."""
        return [f"{self.stage}/loss", *map(str, self.bags), *map(str, self.instances)]

    def update(
        self, batch: BagBatch, losses: Tensor, probabilities: Tensor, scores: Tensor | None
    ) -> None:
        """Adds a batch: the loss of each bag, probabilities, attention scores."""
        assert batch.y is not None
        if scores is not None:
            scores = scores.detach()  # or the graph of every step would wait too
        self._waiting.append(
            _Measured(
                losses.detach(), probabilities, batch.y, scores, batch.y_inst, batch.ptr.diff()
            )
        )
        self._waiting_instances += batch.num_instances
        if self._waiting_instances >= _MOST_WAITING:
            self._measure()

    def compute(self) -> dict[str, Tensor]:
        """All values over all processes, by name; and begins anew."""
        self._measure()
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

    def _measure(self) -> None:
        """Adds the waiting batches to the metrics."""
        waiting, self._waiting, self._waiting_instances = self._waiting, [], 0
        if not waiting:
            return
        self.loss.update(torch.cat([batch.losses for batch in waiting]))
        self.bags.update(
            torch.cat([batch.probabilities for batch in waiting]),
            torch.cat([batch.y for batch in waiting]),
        )
        located = [
            (batch.scores, batch.y_inst, batch.sizes, batch.y)
            for batch in waiting
            if batch.scores is not None and batch.y_inst is not None
        ]
        if located:
            scores, y_inst, sizes, y = (torch.cat(parts) for parts in zip(*located, strict=True))
            positive = y == 1 if self.task == "binary" else torch.ones_like(sizes, dtype=torch.bool)
            self.instances.update(scores, y_inst, pad(sizes.cumsum(0), (1, 0)), positive)
