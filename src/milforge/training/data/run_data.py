"""What is known of the data of a run: parts, labels, task, shapes and hashes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import lightning as L
from torch import Tensor, nn

from milforge.data import (
    SPLITS,
    Bag,
    BagBatch,
    BagSplits,
    BagTable,
    GraphBags,
    ImageBatch,
    LabelledBags,
    LabelledDataset,
    LargeImage,
    Split,
    Splitter,
    as_dataset,
    bag_outline,
)
from milforge.graph import AdjacencyBuilder
from milforge.tasks import Auto, Task
from milforge.training.data.fingerprint import hash_parts
from milforge.training.data.graphs import check_whole, with_graphs
from milforge.training.data.labelled_parts import BagInfo, Parts
from milforge.training.data.parts import make_parts
from milforge.training.data.standardising import InstanceShape, make_standardiser

DataFunction = Callable[[], BagSplits[Any] | BagTable[Any]]


class RunData(L.LightningDataModule):
    """A LightningDataModule that knows its bags, or large images, before any batch is read.

    From the task and the shape of an instance the network is built.

    Args:
        bags: the data set function.
        task: what the labels mean; None finds out.
        split: how a table of bags is split; None where the data set makes its parts itself.
        optional_split: whether `split` is ignored where the data set makes its parts itself.
        graph: builds the adjacency of each bag, where it does not bring one.
        seed: seed of the bags that are looked at to standardise.
        covariates: what a checkpoint knows of the covariates.
    """

    def __init__(
        self,
        bags: DataFunction,
        *,
        task: Task | None,
        split: Splitter | None,
        optional_split: bool,
        graph: AdjacencyBuilder | None,
        seed: int,
        covariates: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        super().__init__()
        self.bags = bags
        self.wanted_task = Auto() if task is None else task
        self.splitter = split
        self.optional_split = optional_split
        self.graph = graph
        self.seed = seed
        self.stored_covariates = covariates
        self._needed: set[str] = set()  # the parts that are set up

    @cached_property
    def _all(self) -> Parts:
        data = self.bags()
        if self.graph is not None and isinstance(data, BagTable):
            check_whole(data)
        ignored = self.optional_split and isinstance(data, BagSplits)
        splitter = None if ignored else self.splitter
        return make_parts(data, self.wanted_task, splitter, self.stored_covariates)

    @cached_property
    def parts(self) -> dict[str, LabelledDataset[Any]]:
        """The bags of each part by its name, with their graphs where there are any."""
        parts = {name: as_dataset(part) for name, part in self._all.parts.items()}
        return with_graphs(parts, self.example, self.graph)

    @cached_property
    def example(self) -> Bag | LargeImage:
        """A bag of a part that is set up, if there is one: it shows what the others are like."""
        names = sorted(SPLITS, key=lambda name: name not in self._needed)
        part = next(self._all.parts[name] for name in names if len(self._all.parts[name]))
        item: Bag | LargeImage = part[0]
        return item

    @property
    def task(self) -> Task:
        """What the labels mean.

        Raises:
            ValueError: where the bags have no labels.
        """
        if self._all.task is None and self.wanted_task.is_known:
            return self.wanted_task  # as a checkpoint knows it, of bags that are to be predicted
        if self._all.task is None:
            raise ValueError(
                "expected labelled bags to train or evaluate, got data.labels=null or "
                "data.label_column=[]"
            )
        return self._all.task

    @property
    def split(self) -> Split | None:
        """The names of the bags of each part, where they were split by name."""
        return self._all.split

    @property
    def skipped(self) -> list[str]:
        """Names of the bags that are left out because of a fault."""
        return self._all.skipped

    def labels(self, part: str) -> Tensor | None:
        """The labels of the bags of a part, for which no bag is read."""
        return self._all.parts[part].labels

    def info(self, part: str, bag_id: str) -> BagInfo:
        """What is known of a bag besides what is in it."""
        return self._all.info(part, bag_id)

    def keep(self, part: str, names: Collection[str]) -> None:
        """Leaves out of a part all bags but those of these names, before anything is set up.

        Where none has such a name, nothing is left out.
        """
        bags = as_dataset(self._all.parts[part])
        numbers = [i for i in range(len(bags)) if bag_outline(bags, i).bag_id in names]
        if not numbers:
            return
        labels = None if bags.labels is None else bags.labels[numbers]
        kept = LabelledBags(bags, numbers, labels)
        self._all = replace(self._all, parts={**self._all.parts, part: kept})

    @property
    def batch_type(self) -> type[BagBatch] | type[ImageBatch]:
        """The kind of batch it gives."""
        return ImageBatch if isinstance(self.example, LargeImage) else BagBatch

    @property
    def has_graphs(self) -> bool:
        """Whether the bags have an adjacency."""
        return any(isinstance(part, GraphBags) for part in self.parts.values())

    @property
    def num_covariates(self) -> int:
        """How many covariates a bag has."""
        item = self.example
        given = item.covariates if isinstance(item, Bag) else None
        return 0 if given is None else len(given)

    @property
    def num_bags(self) -> int:
        """How many bags there are, those of no part and those that are left out among them."""
        return max(self._all.total, sum(map(len, self.parts.values())))

    @property
    def covariates(self) -> list[dict[str, Any]] | None:
        """The statistics of the covariates as plain data, None where there are none."""
        return None if self._all.covariates is None else self._all.covariates.state()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features of an instance, in order; empty where they have none."""
        return self._all.feature_names

    @property
    def instance_shape(self) -> InstanceShape:
        """Shape of one instance; of each stream, by its name, where there are several."""
        return self.example.instance_shape

    def fingerprint(self) -> str:
        """A hash of the bag labels and of the first and last bag of each part.

        Two runs with the same fingerprint saw, as far as that shows, the same data, however long
        they were trained: where bags differ between epochs, it is the hash of the first.
        """
        return self._hashes[0]

    def fingerprints(self, parts: Sequence[str] = ("train", "val")) -> dict[str, dict[str, str]]:
        """Hashes by part, of those parts that decide the weights: a run that goes on must see them.

        Args:
            parts: the names of the parts.
        """
        return {name: self._hashes[1][name] for name in parts}

    @cached_property
    def _hashes(self) -> tuple[str, dict[str, dict[str, str]]]:
        return hash_parts(self.parts, self.split)  # it reads bags

    def standardiser(self, how: str | None, clip: float | None = 10.0) -> nn.Module | None:
        """What standardises the features, where anything does; see `make_standardiser`.

        Raises:
            ValueError: for another word than it takes, a clip that is not above 0, or where large
                images are to be standardised.
        """
        if self.batch_type is ImageBatch:
            if how in ("train", "all"):
                raise ValueError(f"standardise={how}: large images are not standardised; give null")
            return None
        return make_standardiser(
            self.parts, self.instance_shape, how, self.seed, clip, self.feature_names
        )
