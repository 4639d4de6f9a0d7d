"""The DataLoaders of one process: which bags make its batches, and how they are read."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lightning as L
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
from milforge.processes.lightning_private import batches_done, epochs_done
from milforge.tasks import Task
from milforge.training.loader import SharedCollate, TrainLoader, outlast_signals

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


def train_loader(
    bags: LabelledDataset[Any],
    batches: TrainBatches,
    collate_fn: Collate,
    loader: Loader,
    trainer: L.Trainer | None,
) -> DataLoader[Any]:
    """Reads the training bags batch by batch."""
    options = _reading(collate_fn, loader, trainer)
    if trainer is None:
        return TrainLoader(bags, batches, lambda: 0, **options)
    if trainer.overfit_batches > 0:  # type: ignore[attr-defined]
        # The bags to be learnt by heart must be the same ones in every epoch.
        return DataLoader(bags, batch_sampler=list(batches), **options)  # type: ignore[arg-type]
    # For a run that goes on: workers read ahead before Lightning gives the epoch. (From a
    # checkpoint of the end of an epoch, `current_epoch` is still that one.)
    batches.set_epoch(epochs_done(trainer))
    return TrainLoader(bags, batches, partial(batches_done, trainer), **options)


def evaluation_batch_size(loader: Loader, world_size: int) -> int:
    """Bags of a batch that a process evaluates."""
    return loader.eval_batch_size or max(1, loader.batch_size // world_size)


def evaluation_loader(
    bags: LabelledDataset[Any], collate_fn: Collate, loader: Loader, trainer: L.Trainer | None
) -> DataLoader[Any]:
    """Reads the bags of a part in order, each in one process."""
    rank, world_size = process_of(trainer)
    return DataLoader(
        bags,  # type: ignore[arg-type]
        sampler=EvaluationBags(len(bags), rank, world_size),
        batch_size=evaluation_batch_size(loader, world_size),
        **_reading(collate_fn, loader, trainer),
    )


def _reading(collate_fn: Collate, loader: Loader, trainer: L.Trainer | None) -> dict[str, Any]:
    return {
        "num_workers": loader.num_workers,
        "collate_fn": SharedCollate(collate_fn) if loader.num_workers else collate_fn,
        "pin_memory": trainer is not None and trainer.strategy.root_device.type == "cuda",
        "persistent_workers": loader.num_workers > 0,
        "worker_init_fn": outlast_signals,
    }
