"""Bags for training, with or without graphs of their instances."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from milforge.data import (
    SPLITS,
    Bag,
    BagBatch,
    BagSplits,
    GraphBags,
    GraphCounts,
    TrainBatches,
    bag_outline,
    bag_sizes,
    collate_bags,
)
from milforge.graph import AdjacencyBuilder
from milforge.training.datamodule import STAGE_PARTS, ClassificationDataModule, InstanceShape

logger = logging.getLogger(__name__)


class BagDataModule(ClassificationDataModule[Bag]):
    """Batches of bags; a subclass says in `make_splits` which.

    It knows the shape of an instance and the classes, from which the network is built.

    Args:
        batch_size: bags in an optimiser step, over all processes.
        eval_batch_size: bags in a batch of validation, test and prediction, on each process.
            Results do not depend on it; memory and time do. None: its share of `batch_size`.
        num_workers: processes that read bags; 0 reads in the training process.
        adjacency: builds the graph of each bag, once. None: bags have the one they bring along,
            or none.
        adjacency_cache: folder in which the graphs are kept for later runs; None keeps them in
            memory.
        max_instances: most instances in an optimiser step, over all processes; a larger bag is a
            step of its own. None: no limit but `batch_size`.
        balanced: whether training bags are drawn so that all classes are equally likely.
        seed: of the order of the bags.

    Attributes:
        graphs: what the graphs of each part hold, of the parts that are set up.

    Raises:
        ValueError: for sizes below 1, a negative number of workers, or a cache for graphs that
            are not built.
    """

    batch_type = BagBatch

    def __init__(
        self,
        *,
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        adjacency: AdjacencyBuilder | None = None,
        adjacency_cache: str | None = None,
        max_instances: int | None = None,
        balanced: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        if max_instances is not None and max_instances < 1:
            raise ValueError(f"expected data.max_instances of at least 1, got {max_instances}")
        if adjacency_cache is not None and adjacency is None:
            raise ValueError(
                f"expected data/adjacency=... with data.adjacency_cache, got {adjacency_cache!r} "
                "and no graph to be built"
            )
        self.adjacency = adjacency
        self.adjacency_cache = adjacency_cache
        self.max_instances = max_instances
        self.balanced = balanced
        self.graphs: dict[str, GraphCounts] = {}

    @cached_property
    def splits(self) -> BagSplits:
        """The data set, its bags with their graphs where there are any."""
        splits = super().splits
        if self.adjacency is None and bag_outline(splits.train, 0).adj is None:
            return splits
        train, val, test = (
            GraphBags(getattr(splits, name), self.adjacency, self.adjacency_cache, name)
            for name in SPLITS
        )
        return replace(splits, train=train, val=val, test=test)

    @property
    def has_graphs(self) -> bool:
        """Whether the bags have an adjacency."""
        return isinstance(self.splits.train, GraphBags)

    def setup(self, stage: str | None = None) -> None:
        """Opens the data set, so that errors show before training begins.

        The graphs of the parts that the stage needs are built; those of all where it is None.
        """
        before = dict(self.graphs)
        for name in STAGE_PARTS.get(stage, SPLITS):
            bags = getattr(self.splits, name)
            if isinstance(bags, GraphBags):
                self.graphs[name] = bags.prepare()
        if self.graphs != before:
            _tell(list(self.graphs.values()))

    @property
    def instance_shape(self) -> InstanceShape:
        """Shape of one instance; of each stream, by its name, where there are several."""
        x = self.splits.train[0].x
        if isinstance(x, Tensor):
            return tuple(x.shape[1:])
        return {name: tuple(stream.shape[1:]) for name, stream in x.items()}

    @property
    def collate_fn(self) -> Callable[[Sequence[Bag]], BagBatch]:
        """Packs bags; what no bags make has the form of the others."""
        return partial(collate_share, empty=self._empty)

    @cached_property
    def _empty(self) -> BagBatch:
        return collate_bags([self.splits.train[0]]).without_bags()

    def train_batches(self, rank: int, world_size: int) -> TrainBatches:
        """Which training bags make a batch: the same on any number of processes, taken together."""
        bags = self.splits.train
        sizes = bag_sizes(bags)
        return TrainBatches(
            len(bags),
            self.batch_size,
            self.seed,
            rank,
            world_size,
            sizes=[1] * len(bags) if sizes is None else sizes,
            max_instances=self.max_instances,
            balanced_by=bags.labels if self.balanced else None,
            on_epoch=getattr(bags, "set_epoch", None),
        )

    def standardiser(self) -> nn.Module | None:
        """What standardises the features by the statistics of training bags; None where not."""
        return None

    def tensors(self, item: Bag) -> Iterator[Tensor]:
        """The instances of a bag."""
        yield from [item.x] if isinstance(item.x, Tensor) else item.x.values()

    def description(self) -> dict[str, Any]:
        """The data set of a run and its graphs, for its summary."""
        description = super().description()
        if self.graphs:
            description["graphs"] = {name: asdict(counts) for name, counts in self.graphs.items()}
        return description


def collate_share(bags: Sequence[Bag], empty: BagBatch) -> BagBatch:
    """A process may have no bag in a step."""
    return collate_bags(bags) if bags else empty


@rank_zero_only
def _tell(graphs: list[GraphCounts]) -> None:
    instances, edges, isolated = (
        sum(getattr(counts, name) for counts in graphs)
        for name in ("instances", "edges", "isolated")
    )
    logger.info(
        "graphs: %s instances with %.1f neighbours in the mean, %s of them isolated",
        f"{instances:,}",
        2 * edges / instances,
        f"{isolated:,}",
    )
