"""What is measured in one stage: train, val or test."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchmetrics import MeanMetric, Metric, MetricCollection

from milforge.metrics import (
    LocalisationAUROC,
    LocalisationAveragePrecision,
    higher_is_better,
    named_values,
)
from milforge.processes.lightning_private import state_names
from milforge.training.loss.whole_loss import WholeLoss

# Instances that may wait to be measured: enough for thousands of small bags, little memory.
_MOST_WAITING = 2**18

# Attention scores and labels of instances, sizes of their bags, and whether these are positive.
Instances = tuple[Tensor, Tensor, Tensor, Tensor]
Seen = dict[str, Tensor]

# How logits and labels are called among what was seen; no argument of a metric can be.
_OUTPUTS = ("output logits", "output labels")


class StageMetrics(nn.Module):
    """Mean loss of the bags, metrics of the bags, localisation of the positive instances.

    The bags of an epoch are measured together at its end, and instances many bags at once: an
    update of all metrics costs a millisecond, as much as the step of a small network itself.

    Args:
        stage: prefix of the names.
        bags: the metrics of the bags; cloned.
        class_names: the classes of the task; they name the values of a metric of each class.
        means: names of values besides the loss of which there is one per bag, to be averaged.
        whole_loss: the loss, where it is that of all bags together; None: the mean over the bags.
    """

    def __init__(
        self,
        stage: str,
        bags: MetricCollection,
        class_names: Sequence[str] = (),
        means: Sequence[str] = (),
        whole_loss: WholeLoss | None = None,
    ) -> None:
        super().__init__()
        self.stage = stage
        self.class_names = tuple(class_names)
        self.mean_names = ("loss", *means)
        # A loss that diverged must show. (So set, the metric takes no weights: one value a bag.)
        self.means = nn.ModuleList(MeanMetric(nan_strategy="disable") for _ in self.mean_names)
        if whole_loss is not None:
            self.means[0] = whole_loss
        self.bags = bags.clone(prefix=f"{stage}/")
        self.instances = MetricCollection(
            {"inst_auroc": LocalisationAUROC(), "inst_ap": LocalisationAveragePrecision()},
            prefix=f"{stage}/",
            # Groups are found by equal states, and of bags that do not count all states are 0.
            compute_groups=False,
        )
        self._seen: list[Seen] = []
        self._waiting: list[Instances] = []
        self._waiting_instances = 0

    @property
    def names(self) -> list[str]:
        """All names under which there may be a value."""
        means = [f"{self.stage}/{name}" for name in self.mean_names]
        return [*means, *map(str, self.bags), *map(str, self.instances)]

    def higher_is_better(self, name: str) -> bool:
        """Which way is up for one of the names.

        Raises:
            KeyError: where there is no such metric.
            ValueError: where nothing says so.
        """
        bare = name.removeprefix(f"{self.stage}/")
        if bare == "loss":
            return False
        if bare in self.mean_names:
            raise ValueError(
                f"monitor={name}: nothing says whether it is better high or low; set "
                "monitor_mode=min or monitor_mode=max"
            )
        collection = self.instances if name in map(str, self.instances) else self.bags
        known = {str(key): metric for key, metric in collection.items(copy_state=False)}
        # A metric may give a value for each class, which has its name before that of the class.
        fitting = [key for key in known if name == key or name.startswith(f"{key}_")]
        if not fitting:
            raise KeyError(name)
        return higher_is_better(known[max(fitting, key=len)])

    def update(
        self,
        means: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        instances: Instances | None,
        outputs: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            means: `(B,)` each, `loss` among them.
            inputs: `(B, ...)` each: what the metrics of the bags are fed with, by the names of
                the arguments of their `update`.
            instances: `(N,)` attention scores, `(N,)` instance labels, `(B,)` sizes of the bags
                and `(B,)` whether they are positive; None where there are no labels or scores.
            outputs: `(B, O)` logits and `(B, ...)` labels, where they are kept for the whole loss
                or for `outputs`.
        """
        if len(means["loss"]) == 0:  # a process may have no bag in a step
            return
        kept = {} if outputs is None else dict(zip(_OUTPUTS, outputs, strict=True))
        self._seen.append({**means, **inputs, **kept})
        if instances is not None:
            self._waiting.append(instances)
            self._waiting_instances += len(instances[0])
            if self._waiting_instances >= _MOST_WAITING:
                self._locate()

    def compute(self) -> dict[str, Tensor]:
        """Returns all values over all processes, by name, and starts from zero again."""
        self._locate()
        if self._seen:
            seen = self._columns()
            outputs = [seen.pop(name) for name in _OUTPUTS if name in seen]
            for name, mean in self._means():
                of_each = seen.pop(name)
                mean.update(*outputs) if isinstance(mean, WholeLoss) else mean.update(of_each)
            self.bags.update(**seen)
        values = {f"{self.stage}/{name}": mean.compute() for name, mean in self._means()}
        # Nothing here may depend on what one process alone has seen: a collective would hang.
        with warnings.catch_warnings():
            # A pooling without attention never updates them, and that is no mistake.
            warnings.filterwarnings("ignore", message=".*called before the ``update`` method.*")
            values |= named_values(self.bags.compute(), self.class_names)
            instances = self.instances.compute()
        values |= {name: value for name, value in instances.items() if not value.isnan()}
        self.bags.reset()
        self.instances.reset()
        for _, mean in self._means():
            mean.reset()
        self._seen = []
        return values

    def outputs(self) -> tuple[Tensor, Tensor] | None:
        """The logits and labels that this process has seen since the last `compute`.

        None where they are not kept, or there were no bags.
        """
        if not self._seen or _OUTPUTS[0] not in self._seen[0]:
            return None
        logits, labels = (torch.cat([each[name] for each in self._seen]) for name in _OUTPUTS)
        return logits, labels

    def seen(self) -> Seen:
        """What this process has seen since the last `compute`, to be kept in a checkpoint.

        Returns:
            `(B, ...)` each: the means and the inputs of the metrics by name; and the sums behind
            each metric of the instances. Empty where there were no bags.
        """
        if not self._seen:
            return {}
        self._locate()
        return {**self._columns(), **dict(self._sums())}

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
        sums = dict(self._sums())
        # Dealt bag by bag: a process without a single one would miss in the collectives.
        names = [name for name in shards[0] if name not in sums]
        mine = {name: torch.cat([s[name] for s in shards])[rank::world_size] for name in names}
        if len(mine["loss"]):
            self._seen.append(mine)
        if rank == 0:
            for name, total in sums.items():
                total += sum(shard[name] for shard in shards)

    def _columns(self) -> Seen:
        return {name: torch.cat([each[name] for each in self._seen]) for name in self._seen[0]}

    def _sums(self) -> Iterator[tuple[str, Tensor]]:
        """The states of the metrics of the instances, which are sums over the bags."""
        for name, metric in self.instances.items(keep_base=True):
            for state in state_names(metric):
                yield f"{name}/{state}", getattr(metric, state)

    def _means(self) -> list[tuple[str, Metric]]:
        metrics = cast(Iterable[Metric], self.means)
        return list(zip(self.mean_names, metrics, strict=True))

    def _locate(self) -> None:
        """Measures the instances that wait."""
        waiting, self._waiting, self._waiting_instances = self._waiting, [], 0
        if waiting:
            scores, y_inst, sizes, positive = map(torch.cat, zip(*waiting, strict=True))
            self.instances.update(scores, y_inst, pad(sizes.cumsum(0), (1, 0)), positive)
