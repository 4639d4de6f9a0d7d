"""Data for training: what every DataModule shares."""

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from milforge.data import (
    SPLITS,
    BagBatch,
    EvaluationBags,
    ImageBatch,
    LabelledDataset,
    Split,
    Splits,
    Task,
    TrainBatches,
)
from milforge.data.faults import Fault, list_faults
from milforge.data.label_table import LabelTable
from milforge.training.loader import TrainLoader, outlast_signals

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
InstanceShape = tuple[int, ...] | dict[str, tuple[int, ...]]

# The parts of the data set that each of Lightning's stages reads.
STAGE_PARTS: dict[str | None, tuple[str, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


class ClassificationDataModule(L.LightningDataModule, Generic[Item]):
    """Batches of labelled bags or large images; a subclass says in `make_splits` which.

    It knows the shape of an instance and the classes, from which the network is built.

    Args:
        batch_size: bags in an optimiser step, over all processes.
        eval_batch_size: bags in a batch of validation, test and prediction, on each process.
            Results do not depend on it; memory and time do. None: its share of `batch_size`.
        num_workers: processes that read bags; 0 reads in the training process.
        seed: of the order of the bags.

    Attributes:
        batch_type: the kind of batch it gives.
        split: names of the bags of each part, where they were split by name.
        skipped: names of the bags that are left out because of a fault.

    Raises:
        ValueError: for sizes below 1, or a negative number of workers.
    """

    batch_type: ClassVar[type[BagBatch] | type[ImageBatch]]

    def __init__(
        self,
        *,
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"expected data.{name} of at least {least}, got {value}")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.split: Split | None = None
        self.skipped: list[str] = []

    @abstractmethod
    def make_splits(self) -> Splits[Item]:
        """Makes or opens the data set. Called once a process."""

    @property
    @abstractmethod
    def collate_fn(self) -> Callable[[Sequence[Item]], BagBatch | ImageBatch]:
        """What makes a batch of items: a function that worker processes can be handed."""

    @property
    @abstractmethod
    def instance_shape(self) -> InstanceShape:
        """Shape of one instance."""

    @abstractmethod
    def tensors(self, item: Item) -> Iterator[Tensor]:
        """What tells one item from another, for the fingerprint."""

    @cached_property
    def splits(self) -> Splits[Item]:
        """The data set."""
        splits = self.make_splits()
        for name in ("train", "test"):
            if len(getattr(splits, name)) == 0:
                raise ValueError(f"expected at least one bag in the {name} part, got none")
        return splits

    def setup(self, stage: str | None = None) -> None:
        """Opens the data set, so that errors show before training begins."""
        _ = self.splits

    def description(self) -> dict[str, Any]:
        """The data set of a run, for its summary."""
        return {
            "fingerprint": self.fingerprint(),
            "bags": {name: len(getattr(self.splits, name)) for name in SPLITS},
            "skipped": self.skipped,
        }

    @property
    def task(self) -> Task:
        """Binary, multiclass or multilabel.

        Raises:
            ValueError: where the bags have no labels.
        """
        if self.splits.task is None:
            raise ValueError("expected labelled bags to train or evaluate, got data.labels=null")
        return self.splits.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""
        return self.splits.class_names

    def adopt(self, task: Task, class_names: Sequence[str]) -> None:
        """Takes the task from a checkpoint, where the bags are only to be predicted."""
        if self.splits.task is None:
            self.splits = replace(self.splits, task=task, class_names=tuple(class_names))

    def skip(self, faults: Sequence[Fault]) -> None:
        """Goes on without the bags of these faults, which the summary of the run will name."""
        self.skipped = sorted({fault.bag_id or str(fault.file) for fault in faults})
        if faults:
            logger.warning("%s; going on without them", list_faults("data.on_error=skip", faults))

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

        Two runs with the same fingerprint saw, as far as that tells, the same data, however long
        they were trained: of bags that differ between epochs it is that of the first.
        """
        set_epoch = getattr(self.splits.train, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(0)
        digest = hashlib.sha256()
        for name in SPLITS:
            bags: LabelledDataset[Item] = getattr(self.splits, name)
            digest.update(f"{name} {len(bags)}".encode())
            if bags.labels is not None:
                digest.update(bags.labels.numpy().tobytes())
            ends = (0, len(bags) - 1) if len(bags) else ()
            for bag in map(bags.__getitem__, ends):
                for tensor in self.tensors(bag):
                    digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def train_batches(self, rank: int, world_size: int) -> TrainBatches:
        """Which training bags make a batch, on one of so many processes."""
        bags = len(self.splits.train)
        return TrainBatches(bags, self.batch_size, self.seed, rank, world_size)

    def train_dataloader(self) -> DataLoader[Item]:
        """Shuffled batches of the training bags."""
        batches = self.train_batches(*self._process())
        options: dict[str, Any] = {
            "num_workers": self.num_workers,
            "collate_fn": self.collate_fn,
            "pin_memory": self._pin(),
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": outlast_signals,
        }
        trainer: L.Trainer | None = self.trainer
        if trainer is None:
            return TrainLoader(self.splits.train, batches, lambda: 0, **options)
        if trainer.overfit_batches > 0:  # type: ignore[attr-defined]
            # The bags to be learnt by heart must be the same ones in every epoch.
            return DataLoader(self.splits.train, batch_sampler=list(batches), **options)  # type: ignore[arg-type]
        # A run that goes on: workers read ahead before Lightning tells the epoch. (From a
        # checkpoint of the end of an epoch, `current_epoch` is still that one.)
        loop: Any = trainer.fit_loop
        batches.set_epoch(loop.epoch_progress.current.processed)
        progress = loop.epoch_loop.batch_progress.current
        return TrainLoader(self.splits.train, batches, lambda: progress.processed, **options)

    def val_dataloader(self) -> DataLoader[Item] | list[DataLoader[Item]]:
        """The validation bags, in order; where there are none, nothing is validated."""
        return self._evaluation_loader(self.splits.val) if len(self.splits.val) else []

    def test_dataloader(self) -> DataLoader[Item]:
        """The test bags, in order."""
        return self._evaluation_loader(self.splits.test)

    def predict_dataloader(self) -> DataLoader[Item]:
        """The test bags, in order."""
        return self.test_dataloader()

    def transfer_batch_to_device(
        self, batch: BagBatch | ImageBatch, device: torch.device, dataloader_idx: int
    ) -> BagBatch | ImageBatch:
        """Moves the whole batch."""
        return batch.to(device)

    def _evaluation_loader(self, bags: LabelledDataset[Item]) -> DataLoader[Item]:
        rank, world_size = self._process()
        return DataLoader(
            bags,  # type: ignore[arg-type]
            sampler=EvaluationBags(len(bags), rank, world_size),
            batch_size=self.eval_batch_size or max(1, self.batch_size // world_size),
            num_workers=self.num_workers,
            collate_fn=self.collate_fn,
            pin_memory=self._pin(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=outlast_signals,
        )

    def _process(self) -> tuple[int, int]:
        """Rank and number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _pin(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def task_of(table: LabelTable) -> Task:
    """What kind of labels a table has."""
    if table.labels.ndim == 2:
        return "multilabel"
    return "binary" if len(table.classes) == 2 else "multiclass"
