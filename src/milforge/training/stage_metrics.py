"""What is measured in one stage: train, val or test."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchmetrics import MeanMetric, MetricCollection

from milforge.data import Task
from milforge.metrics import LocalisationAUROC, LocalisationAveragePrecision

# Instances that may wait to be measured: enough for thousands of small bags, little memory.
_MOST_WAITING = 2**18


class _Measured(NamedTuple):
    """What the metrics take of a batch."""

    means: dict[str, Tensor]
    probabilities: Tensor
    y: Tensor
    scores: Tensor | None
    y_inst: Tensor | None
    sizes: Tensor | None


Seen = dict[str, Tensor]


class StageMetrics(nn.Module):
    """Mean loss of the bags, metrics of the bags, localisation of the positive instances.

    Batches wait and are measured many at once: an update of all metrics costs a millisecond,
    as much as the step of a small network itself.

    Args:
        stage: prefix of the names.
        bags: the metrics of the bags; cloned.
        task: decides which bags count as positive.
        means: names of values besides the loss of which there is one a bag, to be averaged.
    """

    def __init__(
        self, stage: str, bags: MetricCollection, task: Task, means: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.stage = stage
        self.task = task
        self.mean_names = ("loss", *means)
        # A loss that diverged must show. (So set, the metric takes no weights: one value a bag.)
        self.means = nn.ModuleList(MeanMetric(nan_strategy="disable") for _ in self.mean_names)
        self.bags = bags.clone(prefix=f"{stage}/")
        self.instances = MetricCollection(
            {"inst_auroc": LocalisationAUROC(), "inst_ap": LocalisationAveragePrecision()},
            prefix=f"{stage}/",
            # Groups are found by equal states, and of bags that do not count all states are 0.
            compute_groups=False,
        )
        self._waiting: list[_Measured] = []
        self._waiting_instances = 0
        self._seen: list[Seen] = []

    @property
    def names(self) -> list[str]:
        """All names under which there may be a value."""
        means = [f"{self.stage}/{name}" for name in self.mean_names]
        return [*means, *map(str, self.bags), *map(str, self.instances)]

    def update(
        self,
        losses: Tensor,
        probabilities: Tensor,
        y: Tensor,
        *,
        scores: Tensor | None = None,
        y_inst: Tensor | None = None,
        sizes: Tensor | None = None,
        **means: Tensor,
    ) -> None:
        """Adds a batch.

        Args:
            losses: `(B,)` the loss of each bag.
            probabilities: `(B,)` or `(B, C)`.
            y: `(B,)` or `(B, C)` bag labels.
            scores: `(N,)` attention scores, where there are any.
            y_inst: `(N,)` instance labels, where there are any.
            sizes: `(B,)` instances of each bag, where there are scores.
            means: `(B,)` each.
        """
        if len(y) == 0:  # the share of a process in a step of few bags
            return
        if scores is not None:
            scores = scores.detach()  # or the graph of every step would wait too
        means = {"loss": losses.detach(), **means}
        self._waiting.append(_Measured(means, probabilities, y, scores, y_inst, sizes))
        self._seen.append({**means, "probabilities": probabilities, "y": y})
        self._waiting_instances += len(y) if scores is None else len(scores)
        if self._waiting_instances >= _MOST_WAITING:
            self._measure()

    def compute(self) -> dict[str, Tensor]:
        """All values over all processes, by name; and begins anew."""
        self._measure()
        values = {f"{self.stage}/{name}": mean.compute() for name, mean in self._means()}
        values |= self.bags.compute()
        # Nothing here may depend on what one process alone has seen: a collective would hang.
        with warnings.catch_warnings():
            # A pooling without attention never updates them, and that is no mistake.
            warnings.filterwarnings("ignore", message=".*called before the ``update`` method.*")
            instances = self.instances.compute()
        values |= {name: value for name, value in instances.items() if not value.isnan()}
        self.bags.reset()
        self.instances.reset()
        for _, mean in self._means():
            mean.reset()
        self._seen = []
        return values

    def seen(self) -> Seen:
        """What this process has seen since the last `compute`, to be kept in a checkpoint.

        Returns:
            `(B, ...)` each: the means by name, `probabilities` and `y`; and the sums behind each
            metric of the instances. Empty where there were no bags.
        """
        if not self._seen:
            return {}
        self._measure()
        bags = {name: torch.cat([each[name] for each in self._seen]) for name in self._seen[0]}
        return {**bags, **dict(self._sums())}

    def see_again(self, shards: Sequence[Seen], rank: int, world_size: int) -> None:
        """Takes up what processes have seen, of which there may be another number now.

        Args:
            shards: what `seen` gave in each of them.
            rank: this process.
            world_size: the number of processes that there are now.
        """
        shards = [shard for shard in shards if shard]
        if not shards:
            return
        names = ("probabilities", "y", *self.mean_names)
        # Dealt bag by bag: a process without a single one would miss in the collectives.
        mine = {name: torch.cat([s[name] for s in shards])[rank::world_size] for name in names}
        self.update(mine.pop("loss"), mine.pop("probabilities"), **mine)
        if rank == 0:
            for name, total in self._sums():
                total += sum(shard[name] for shard in shards)

    def _sums(self) -> Iterator[tuple[str, Tensor]]:
        """The states of the metrics of the instances, which are sums over the bags."""
        for name, metric in self.instances.items(keep_base=True):
            for state in metric._defaults:
                yield f"{name}/{state}", getattr(metric, state)

    def _means(self) -> list[tuple[str, MeanMetric]]:
        metrics = cast(Iterable[MeanMetric], self.means)
        return list(zip(self.mean_names, metrics, strict=True))

    def _measure(self) -> None:
        """Adds the waiting batches to the metrics."""
        waiting, self._waiting, self._waiting_instances = self._waiting, [], 0
        if not waiting:
            return
        for name, mean in self._means():
            mean.update(torch.cat([batch.means[name] for batch in waiting]))
        self.bags.update(
            torch.cat([batch.probabilities for batch in waiting]),
            torch.cat([batch.y for batch in waiting]),
        )
        located = [
            (batch.scores, batch.y_inst, batch.sizes, batch.y)
            for batch in waiting
            if batch.scores is not None and batch.y_inst is not None and batch.sizes is not None
        ]
        if located:
            scores, y_inst, sizes, y = (torch.cat(parts) for parts in zip(*located, strict=True))
            positive = y == 1 if self.task == "binary" else torch.ones_like(sizes, dtype=torch.bool)
            self.instances.update(scores, y_inst, pad(sizes.cumsum(0), (1, 0)), positive)
