"""The data of a run as a trainer takes them: stage by stage, in batches."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from milforge.data import (
    SPLITS,
    BagBatch,
    GraphBags,
    GraphCounts,
    ImageBatch,
    LabelledDataset,
    Loader,
    Splitter,
    TrainBatches,
    collate_bags,
    collate_images,
)
from milforge.data.images.sources.tolerant import unreadable
from milforge.data.loading.tables import Tables
from milforge.graph import AdjacencyBuilder
from milforge.processes.collectives import gathered
from milforge.tasks import Task
from milforge.training.data.data_loaders import (
    collate_share,
    evaluation_batch_size,
    evaluation_loader,
    make_reader,
    process_of,
    train_batches,
    train_loader,
)
from milforge.training.data.graphs import log_graphs
from milforge.training.data.loader import Reader
from milforge.training.data.run_data import DataFunction, RunData
from milforge.training.data.used_bags import evaluated_bags, trained_bags
from milforge.training.data.used_coords import Stage

# The parts of the data set that each of Lightning's stages reads.
STAGE_PARTS: dict[str | None, tuple[str, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


class MILDataModule(RunData):
    """Batches of labelled bags, or of large images.

    What is wrong with the parts, or with the options, shows when they are first asked for.

    Args:
        bags: the data set function: it returns the parts, or a table of bags that are to be split.
        task: what the labels mean; None finds out (`milforge.tasks.Auto`).
        split: how a table of bags is split; None where the data set makes its parts itself.
        optional_split: whether `split` is ignored where the data set makes its parts itself.
        graph: builds the adjacency of each bag, once. None: bags have the one they bring along, or
            none.
        loader: the sizes of batches, and how bags are read.
        seed: seed of the order of the bags.
        covariates: what a checkpoint knows of the covariates; None learns it from the training
            part.

    Attributes:
        graphs: what the graphs of each part hold, of the parts that are set up.
        unreadable_windows: how many windows of each large image no process could read, in the
            stages that are over.
        predicted: the part that is predicted.
    """

    def __init__(
        self,
        bags: DataFunction,
        *,
        task: Task | None = None,
        split: Splitter | None = None,
        optional_split: bool = False,
        graph: AdjacencyBuilder | None = None,
        loader: Loader | None = None,
        seed: int = 0,
        covariates: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(
            bags,
            task=task,
            split=split,
            optional_split=optional_split,
            graph=graph,
            seed=seed,
            covariates=covariates,
        )
        self.loader = Loader() if loader is None else loader
        self.graphs: dict[str, GraphCounts] = {}
        self.unreadable_windows: Counter[str] = Counter()
        self.predicted = "test"
        self._tables = Tables()

    def setup(self, stage: str | None = None) -> None:
        """Opens the data set, so that errors show before training begins.

        Of the parts that the stage needs, all where it is None, the bags are read once where the
        data set asks for it, and the graphs are built.

        Raises:
            ValueError: where a part that the stage cannot do without is empty.
            BagError: lists all bags that cannot be read.
        """
        names = STAGE_PARTS.get(stage, SPLITS)
        if stage in ("fit", None) and "calibration" in self._all.parts:
            names = (*names, "calibration")
        for name in names:
            if name != "val" and len(self._all.parts[name]) == 0:
                other = "" if self.splitter is None else ": choose another split=..."
                untested = " (or test=false, to train alone)" if stage is None and other else ""
                raise ValueError(
                    f"expected at least one bag in the {name} part, got none{other}"
                    f"{untested if name == 'test' else ''}"
                )
        left = [name for name in names if name not in self._needed]
        self._needed |= set(left)
        if self._all.check:
            # Before any bag is looked at for another reason, or its fault would be reported alone.
            self._all.read(left)
        before = dict(self.graphs)
        for name in names:
            part = self.parts[name]
            if isinstance(part, GraphBags) and len(part):
                self.graphs[name] = part.prepare()
        if self.graphs != before:
            log_graphs(list(self.graphs.values()))

    def used(self, *, predicts: bool = False) -> dict[str, int]:
        """How many bags of each part are looked at: all, where the trainer has no limit.

        Args:
            predicts: whether the test bags are predicted, which has a limit of its own.
        """
        trainer: Any = self.trainer
        counts = {name: len(part) for name, part in self.parts.items()}
        if trainer is None:
            return counts
        limits = {
            "val": trainer.limit_val_batches,
            "test": trainer.limit_predict_batches if predicts else trainer.limit_test_batches,
        }
        size = evaluation_batch_size(self.loader, trainer.world_size)
        for name, limit in limits.items():
            counts[name] = evaluated_bags(counts[name], size, trainer.world_size, limit)
        limit = trainer.limit_train_batches
        if counts["train"] and (isinstance(limit, int) or limit < 1):  # 1 is a batch, 1.0 all
            batches = self.train_batches(0, trainer.world_size).global_batches()
            counts["train"] = trained_bags(batches, limit)
        return counts

    def description(self, *, predicts: bool = False) -> dict[str, Any]:
        """The data set of a run, for its summary.

        Args:
            predicts: whether the test bags are predicted, rather than tested.
        """
        counts = {name: len(part) for name, part in self.parts.items()}
        used = self.used(predicts=predicts)
        description: dict[str, Any] = {
            "fingerprint": self.fingerprint(),
            "hashes": self.fingerprints(tuple(self.parts)),
            "bags": used,
            "skipped": self.skipped,
        }
        if used != counts:
            description["bags_of_parts"] = counts  # trainer.limit_..._batches left some out
        if self.graphs:
            description["graphs"] = {name: asdict(counts) for name, counts in self.graphs.items()}
        if self.batch_type is ImageBatch:
            description["unreadable_windows"] = dict(self.unreadable_windows)
        return description

    @property
    def collate_fn(self) -> Callable[[Sequence[Any]], BagBatch | ImageBatch]:
        """What makes a batch of items: a function that worker processes can be handed."""
        if self.batch_type is ImageBatch:
            return collate_images
        return partial(collate_share, empty=self._empty)

    @cached_property
    def _empty(self) -> BagBatch:
        name = next(name for name, part in self.parts.items() if len(part))
        return collate_bags([self.parts[name][0]]).without_bags()

    def train_batches(self, rank: int, world_size: int) -> TrainBatches:
        """Which training bags make a batch: the same on any number of processes, taken together.

        Raises:
            ValueError: where classes are to be balanced, and the task has none.
        """
        bags = self.parts["train"]
        return train_batches(bags, self.task, self.loader, self.seed, rank, world_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of the training bags."""
        batches = self.train_batches(*process_of(self.trainer))
        bags = self.parts["train"]
        reader = self._reader(bags, "train")
        return train_loader(bags, batches, self.collate_fn, self.loader, self.trainer, reader)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """The validation bags, in order; where there are none, nothing is validated."""
        return self._evaluation_loader("val", "validation") if len(self.parts["val"]) else []

    def test_dataloader(self) -> DataLoader[Any]:
        """The test bags, in order."""
        return self._evaluation_loader("test", "test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The bags of the part that is `predicted`, in order."""
        return self._evaluation_loader(self.predicted, "predict")

    def transfer_batch_to_device(
        self, batch: BagBatch | ImageBatch, device: torch.device, dataloader_idx: int
    ) -> BagBatch | ImageBatch:
        """Moves the whole batch, and counts what workers could not read of images."""
        if isinstance(batch, ImageBatch):
            unreadable.update(batch.unreadable)
        return batch.to(device)

    def teardown(self, stage: str | None = None) -> None:
        """Adds up what the processes could not read in this stage."""
        if self.batch_type is not ImageBatch:
            return
        lost = dict(unreadable)
        unreadable.clear()
        _, world_size = process_of(self.trainer)
        for each in gathered(lost, world_size):
            self.unreadable_windows.update(each)

    def _evaluation_loader(self, name: str, stage: Stage) -> DataLoader[Any]:
        bags = self.parts[name]
        reader = self._reader(bags, stage)
        return evaluation_loader(bags, self.collate_fn, self.loader, self.trainer, reader)

    def _reader(self, bags: LabelledDataset[Any], stage: Stage) -> Reader | None:
        of_fit = [self.parts[name] for name in STAGE_PARTS["fit"]]
        return make_reader(
            bags, of_fit, lambda: self._empty, self._tables, self.loader, self.trainer, stage
        )
