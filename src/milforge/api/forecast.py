"""What a training step of a config will take of memory, before any bag is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from milforge.api.build import build_network, check_batch_type, check_graph, make, make_loader
from milforge.config.checkpoints.checkpoint_config import empty_standardiser
from milforge.data import Bag, BagBatch, Loader, collate_bags
from milforge.data.loading.read_ahead import HELD
from milforge.training.data.standardising import InstanceShape
from milforge.training.step_memory import StepMemory, largest_batch, step_memory


@dataclass(frozen=True)
class Forecast:
    """The memory of a training step with the largest batch, on one process.

    Args:
        sizes: of the bags of the batch.
        step: what it takes of the device.
        batches: how many the loader holds at most in the memory of the machine; None: that is not
            known, because processes read them or they are kept.
        stored: bytes of the features of one of these.
    """

    sizes: tuple[int, ...]
    step: StepMemory
    batches: int | None
    stored: int


def forecast(
    config: DictConfig,
    sizes: Sequence[int],
    widths: Mapping[str, int],
    dtype: torch.dtype,
    *,
    num_outputs: int = 1,
    coords_axes: int | None = None,
) -> Forecast:
    """What a step takes with a batch that the loader makes of the largest bags.

    The network of the config is tried on random features and, where there are coords, with the
    graph of tiles that lie side by side in a square.

    Args:
        config: of a run; its data set is not looked at, but for `data.max_instances_per_bag`.
        sizes: instances of each bag.
        widths: features of each stream by its name; a single one may have any name.
        dtype: of the features as they are read.
        num_outputs: logits of a bag.
        coords_axes: 2 or 3; None: the bags have no coords.

    Raises:
        ValueError: where the config does not fit such bags, or itself.
    """
    check_batch_type(config, BagBatch)
    half = _is_half(config.trainer.precision)
    shapes: dict[str, tuple[int, ...]] = {name: (width,) for name, width in widths.items()}
    shape: InstanceShape = shapes if len(shapes) > 1 else next(iter(shapes.values()))
    network = build_network(config, shape, num_outputs, 0)
    graph = make(config.graph) if config.graph else None
    check_graph(network, graph is not None)
    optimizer = make(config.optimizer)(network.parameters())

    def make_bag(number: int, size: int) -> Bag:
        x: Any = {name: torch.randn(size, width).to(dtype) for name, width in widths.items()}
        x = x if len(x) > 1 else next(iter(x.values()))
        coords = None if coords_axes is None else _tiles(size, coords_axes)
        adj = None if graph is None else graph(coords, x)
        return Bag(x, None, adj, coords, bag_id=str(number))

    def make_batch(sizes: Sequence[int]) -> BagBatch:
        batch = collate_bags([make_bag(number, size) for number, size in enumerate(sizes)])
        return replace(batch, seeds=torch.arange(len(sizes)))

    loader = make_loader(config)
    batch = largest_batch(_given(config, sizes), loader.batch_size, loader.max_instances)
    standardise = None if config.standardise is None else empty_standardiser(shape)
    return Forecast(
        sizes=tuple(batch),
        step=step_memory(
            network, make_batch, batch, standardise=standardise, optimizer=optimizer, half=half
        ),
        batches=_batches(loader),
        stored=sum(batch) * sum(widths.values()) * dtype.itemsize,
    )


def _is_half(precision: Any) -> bool:
    if str(precision) not in ("32-true", "32", "16-mixed", "bf16-mixed"):
        raise ValueError(
            "trainer.precision: expected 32-true, 16-mixed or bf16-mixed to forecast a step, got "
            f"{precision}"
        )
    return str(precision).endswith("mixed")


def _given(config: DictConfig, sizes: Sequence[int]) -> list[int]:
    """The sizes of training bags, of which the data set may give a part of their instances."""
    most = config.data.get("max_instances_per_bag")
    return list(sizes) if most is None else [min(size, most) for size in sizes]


def _batches(loader: Loader) -> int | None:
    return HELD if loader.keep is None and not loader.num_workers else None


def _tiles(size: int, axes: int) -> Tensor:
    side = isqrt(max(0, size - 1)) + 1
    places = torch.arange(size)
    coords = torch.zeros(size, axes)
    coords[:, 0], coords[:, 1] = places % side, places // side
    return coords
