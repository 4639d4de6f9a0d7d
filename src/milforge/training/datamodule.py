"""Bags for training: what every DataModule shares."""

import hashlib
import logging
from abc import abstractmethod
from dataclasses import replace
from functools import cached_property

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from milforge.data import (
    SPLITS,
    Bag,
    BagBatch,
    BagDataset,
    BagSplits,
    EvaluationBags,
    GraphBags,
    GraphCounts,
    Task,
    TrainBatches,
    collate_bags,
)
from milforge.graph import AdjacencyBuilder

logger = logging.getLogger(__name__)

# The parts of the data set that each of Lightning's stages reads.
STAGE_PARTS: dict[str | None, tuple[str, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


class BagDataModule(L.LightningDataModule):
    """Batches of bags; a subclass says in `make_splits` which.

    It knows the shape of an instance and the classes, from which the network is built.

    Args:
        batch_size: bags in an optimiser step, over all processes.
        eval_batch_size: bags in a batch of validation, test and prediction. Results do not
            depend on it; memory and time do. None: `batch_size`.
        num_workers: processes that read bags; 0 reads in the training process.
        adjacency: builds the graph of each bag, once. None: bags have the one they bring along,
            or none.
        adjacency_cache: folder in which the graphs are kept for later runs; None keeps them in
            memory.
        seed: of the order of the bags.

    Attributes:
        graphs: what the graphs of each part hold, of the parts that are set up.

    Raises:
        ValueError: for sizes below 1, a negative number of workers, or a cache for graphs that
            are not built.
    """

    def __init__(
        self,
        *,
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        adjacency: AdjacencyBuilder | None = None,
        adjacency_cache: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(f"expected data.{name} of at least {least}, got {value}")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        if adjacency_cache is not None and adjacency is None:
            raise ValueError(
                f"expected data/adjacency=... with data.adjacency_cache, got {adjacency_cache!r} "
                "and no graph to be built"
            )
        self.num_workers = num_workers
        self.adjacency = adjacency
        self.adjacency_cache = adjacency_cache
        self.graphs: dict[str, GraphCounts] = {}
        self.seed = seed

    @abstractmethod
    def make_splits(self) -> BagSplits:
        """Makes or opens the data set. Called once a process."""

    @cached_property
    def splits(self) -> BagSplits:
        """The data set, its bags with their graphs where there are any."""
        splits = self.make_splits()
        for name in SPLITS:
            if len(getattr(splits, name)) == 0:
                raise ValueError(f"expected at least one bag in the {name} part, got none")
        if self.adjacency is None and splits.train[0].adj is None:
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
    def instance_shape(self) -> tuple[int, ...]:
        """Shape of one instance."""
        x = self.splits.train[0].x
        if not isinstance(x, Tensor):
            raise ValueError(f"expected bags with one stream of features, got {sorted(x)}")
        return tuple(x.shape[1:])

    @property
    def task(self) -> Task:
        """Binary, multiclass or multilabel."""
        return self.splits.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""
        return self.splits.class_names

    def class_weights(self) -> Tensor:
        """Weights of the classes that balance the training bags, `n / (classes * n_c)`.

        Returns:
            `(C,)`; for a multilabel task `(C, 2)`, absence and presence of each label.

        Raises:
            ValueError: where a class has no training bag.
        """
        labels = self.splits.train.labels
        if labels is None:
            raise ValueError("expected labelled training bags for class_weights, got none")
        classes = 2 if self.task == "multilabel" else len(self.class_names)
        one_hot = torch.nn.functional.one_hot(labels, classes)
        counts = one_hot.sum(0)
        if bool((counts == 0).any()):
            raise ValueError(
                f"expected training bags of every class for class_weights, got counts "
                f"{counts.tolist()} for {self.class_names}; leave class_weights=null"
            )
        return len(labels) / (classes * counts)

    def fingerprint(self) -> str:
        """A hash of the bag labels and of the first and last bag of each part.

        Two runs with the same fingerprint saw, as far as that tells, the same data.
        """
        digest = hashlib.sha256()
        for name in SPLITS:
            bags: BagDataset = getattr(self.splits, name)
            digest.update(f"{name} {len(bags)}".encode())
            if bags.labels is not None:
                digest.update(bags.labels.numpy().tobytes())
            for bag in (bags[0], bags[len(bags) - 1]):
                x = {"x": bag.x} if isinstance(bag.x, Tensor) else bag.x
                for stream in x.values():
                    digest.update(stream.numpy().tobytes())
        return digest.hexdigest()[:16]

    def train_dataloader(self) -> DataLoader[Bag]:
        """Shuffled batches of the training bags."""
        bags = self.splits.train
        rank, world_size = self._process()
        batches = TrainBatches(len(bags), self.batch_size, self.seed, rank, world_size)
        # The bags to be learnt by heart must be the same ones in every epoch.
        overfit = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        return DataLoader(
            bags,  # type: ignore[arg-type]
            batch_sampler=list(batches) if overfit else batches,
            num_workers=self.num_workers,
            collate_fn=collate_bags,
            pin_memory=self._pin(),
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader[Bag]:
        """The validation bags, in order."""
        return self._evaluation_loader(self.splits.val)

    def test_dataloader(self) -> DataLoader[Bag]:
        """The test bags, in order."""
        return self._evaluation_loader(self.splits.test)

    def predict_dataloader(self) -> DataLoader[Bag]:
        """The test bags, in order."""
        return self.test_dataloader()

    def transfer_batch_to_device(
        self, batch: BagBatch, device: torch.device, dataloader_idx: int
    ) -> BagBatch:
        """Moves the whole batch."""
        return batch.to(device)

    def _evaluation_loader(self, bags: BagDataset) -> DataLoader[Bag]:
        return DataLoader(
            bags,  # type: ignore[arg-type]
            sampler=EvaluationBags(len(bags), *self._process()),
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_bags,
            pin_memory=self._pin(),
            persistent_workers=self.num_workers > 0,
        )

    def _process(self) -> tuple[int, int]:
        """Rank and number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _pin(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


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
