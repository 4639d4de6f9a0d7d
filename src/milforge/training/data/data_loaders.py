"""The DataLoaders of one process: which bags make its batches, and how they are read."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from milforge.data import (
    Bag,
    BagBatch,
    EvaluationBags,
    LabelledDataset,
    Loader,
    TrainBatches,
    bag_sizes,
    collate_bags,
    set_epoch,
)
from milforge.data.dataset import reads_into
from milforge.data.loading.kept import KeptBags, check_room
from milforge.data.loading.read_ahead import ReadAhead
from milforge.data.loading.tables import Tables
from milforge.processes.lightning_private import batches_done, epochs_done
from milforge.tasks import Task
from milforge.training.data.loader import (
    BagLoader,
    Reader,
    SharedCollate,
    TrainLoader,
    outlast_signals,
)
from milforge.training.data.used_coords import Stage, uses_coords

logger = logging.getLogger(__name__)

Collate = Callable[[Sequence[Any]], Any]


def process_of(trainer: L.Trainer | None) -> tuple[int, int]:
    """The rank of this process and the number of processes."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def collate_share(bags: Sequence[Bag], empty: BagBatch) -> BagBatch:
    """The batch of a process, which may have no bag in a step."""
    return collate_bags(bags) if bags else empty


def classes_to_balance(labels: Tensor | None, task: Task) -> Tensor:
    """The classes of the training bags, of which each is to be drawn equally often.

    Raises:
        ValueError: where the task has none.
    """
    classes = None if labels is None else task.classes(labels)
    if classes is None:
        raise ValueError(
            f"loader.balanced=true: the task {type(task).__name__} has no classes to draw "
            "equally often; leave it false"
        )
    return classes


def train_batches(
    bags: LabelledDataset[Any], task: Task, loader: Loader, seed: int, rank: int, world_size: int
) -> TrainBatches:
    """Which training bags make a batch: the same on any number of processes, taken together.

    Args:
        bags: the training bags.
        task: knows the classes, where they are to be balanced.
        loader: the sizes of batches.
        seed: seed of the order of the bags.
        rank: the number of this process.
        world_size: the number of processes.

    Raises:
        ValueError: where classes are to be balanced, and the task has none; or where no batch
            teaches the task anything.
    """
    sizes = bag_sizes(bags)
    classes = classes_to_balance(bags.labels, task) if loader.balanced else None
    batches = TrainBatches(
        len(bags),
        loader.batch_size,
        seed,
        rank,
        world_size,
        sizes=[1] * len(bags) if sizes is None else sizes,
        max_instances=loader.max_instances,
        balanced_by=classes,
        on_epoch=partial(set_epoch, bags),
    )
    if task.whole_batch and bags.labels is not None:
        _check_batches(batches, bags.labels, task, loader)
    return batches


def _check_batches(batches: TrainBatches, labels: Tensor, task: Task, loader: Loader) -> None:
    """Checks that batches of which the bags are compared hold bags that can be.

    Raises:
        ValueError: where none does.
    """
    numbers = batches.global_batches()
    idle = [batch for batch in numbers if not task.teaches(labels[batch])]
    bags = f"{len(labels) / len(numbers):.3g} bags on average"
    if len(idle) == len(numbers):
        raise ValueError(
            f"loader.batch_size={loader.batch_size}: the task {type(task).__name__} compares the "
            f"bags of a batch, and of {len(numbers)} batches of {bags} none holds an event and "
            "another bag that lives as long: raise it to 32 or more, and loader.max_instances as "
            "far as memory allows"
        )
    say = logger.warning if idle else logger.info
    say(
        "the risk sets of %d batches hold %s; %d of them have no event to learn from%s",
        len(numbers),
        bags,
        len(idle),
        ": raise loader.batch_size" if idle else "",
    )


def make_reader(
    bags: LabelledDataset[Any],
    of_fit: Sequence[LabelledDataset[Any]],
    empty: Callable[[], BagBatch],
    tables: Tables,
    loader: Loader,
    trainer: L.Trainer | None,
    stage: Stage,
) -> Reader | None:
    """What reads bags by threads of this process; None where the DataLoader is to do it.

    Args:
        bags: the bags.
        of_fit: all bags that a fit reads, which may have to fit into memory.
        empty: gives a batch of no bags, with instances of their shape and dtype.
        tables: memory for batches.
        loader: how bags are read.
        trainer: the trainer of the run.
        stage: what they are read for.

    Raises:
        ValueError: where bags are to be kept that cannot be, or do not fit.
    """
    keep = loader.keep if stage in ("train", "validation") else None
    if keep is not None and trainer is not None and trainer.state.fn != "fit":
        keep = None  # they are read once
    if loader.num_workers or not reads_into(bags):
        if keep is None:
            return None
        raise ValueError(
            f"loader.keep={keep}: expected bags in files of features, got a data set that reads "
            "its own: leave loader.keep=null"
        )
    tables.pinned = on_gpu(trainer)
    coords, threads = uses_coords(trainer, stage), loader.threads
    if keep is None:
        return ReadAhead(bags, empty(), tables, threads=threads, coords=coords)
    device = torch.device("cpu")
    if keep == "device" and trainer is not None:
        device = trainer.strategy.root_device
    if stage == "train":
        sizes = [each for each in map(bag_sizes, of_fit) if each is not None]
        check_room(sum(int(each.sum()) for each in sizes), empty(), device)
    return KeptBags(bags, empty(), tables, device=device, threads=threads, coords=coords)


def train_loader(
    bags: LabelledDataset[Any],
    batches: TrainBatches,
    collate_fn: Collate,
    loader: Loader,
    trainer: L.Trainer | None,
    reader: Reader | None = None,
) -> DataLoader[Any]:
    """Reads the training bags batch by batch."""
    options = _reading(collate_fn, loader, trainer, reader)
    if trainer is None:
        return TrainLoader(bags, batches, lambda: 0, **options)
    if trainer.overfit_batches > 0:  # type: ignore[attr-defined]
        # The bags to be learnt by heart must be the same ones in every epoch.
        return BagLoader(bags, batch_sampler=list(batches), **options)
    # For a run that goes on: workers read ahead before Lightning gives the epoch. (From a
    # checkpoint of the end of an epoch, `current_epoch` is still that one.)
    batches.set_epoch(epochs_done(trainer))
    return TrainLoader(bags, batches, partial(batches_done, trainer), **options)


def evaluation_batch_size(loader: Loader, world_size: int) -> int:
    """Bags of a batch that a process evaluates."""
    return loader.eval_batch_size or max(1, loader.batch_size // world_size)


def evaluation_loader(
    bags: LabelledDataset[Any],
    collate_fn: Collate,
    loader: Loader,
    trainer: L.Trainer | None,
    reader: Reader | None = None,
) -> DataLoader[Any]:
    """Reads the bags of a part in order, each in one process."""
    rank, world_size = process_of(trainer)
    return BagLoader(
        bags,
        sampler=EvaluationBags(len(bags), rank, world_size),
        batch_size=evaluation_batch_size(loader, world_size),
        **_reading(collate_fn, loader, trainer, reader),
    )


def on_gpu(trainer: L.Trainer | None) -> bool:
    """Whether batches are copied to a GPU."""
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


def _reading(
    collate_fn: Collate, loader: Loader, trainer: L.Trainer | None, reader: Reader | None
) -> dict[str, Any]:
    return {
        "num_workers": loader.num_workers,
        "collate_fn": SharedCollate(collate_fn) if loader.num_workers else collate_fn,
        "pin_memory": on_gpu(trainer),
        "persistent_workers": loader.num_workers > 0,
        "worker_init_fn": outlast_signals,
        "reader": reader,
    }
