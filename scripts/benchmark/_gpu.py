"""What the parts of `gpu.py` share: sizes, a clock that waits for the device, bags, a network."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from milforge.data import Bag, BagBatch, collate_bags
from milforge.graph import build_adjacency
from milforge.nn import AttentionPool


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    device: torch.device
    width: int  # of an instance
    bags: int  # of an epoch
    instances: int  # of the largest bag of an epoch, and of the pooled batch
    square: int  # side of the matrices that are multiplied
    grids: tuple[int, ...]  # instances of a bag that is smoothed
    repeats: int
    models: int | None = None  # how many are compared; None: all


def least(step: Callable[[], object], sizes: Sizes) -> float:
    """The least seconds of a call, after one unmeasured."""
    taken = []
    for _ in range(sizes.repeats + 1):
        wait(sizes.device)
        start = time.perf_counter()
        step()
        wait(sizes.device)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_batch(counts: Sequence[int], width: int, dtype: torch.dtype) -> BagBatch:
    """Bags in grids of 100 columns, each with its graph."""
    generator = torch.Generator().manual_seed(0)
    bags = []
    for count in counts:
        coords = torch.stack([torch.arange(count) % 100, torch.arange(count) // 100], 1).float()
        x = torch.randn(count, width, generator=generator).to(dtype)
        adj = build_adjacency(coords, method="radius", radius=1.5)
        adj = torch.sparse_csr_tensor(
            adj.crow_indices(), adj.col_indices(), adj.values().to(dtype), adj.shape
        )
        bags.append(Bag(x, None, adj, coords))
    return replace(collate_bags(bags), seeds=torch.arange(len(counts)))


def difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The norm of the difference over that of what is expected, all together."""
    pairs = [(a.cpu().double(), b.double()) for a, b in zip(found, expected, strict=True)]
    norm = math.sqrt(sum(float(b.square().sum()) for _, b in pairs))
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs)) / max(norm, 1e-300)


class Gated(nn.Module):
    """Gated attention behind a projection, packed or padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(width, 512), nn.ReLU())
        self.pool = AttentionPool(512, 128, gated=True)
        self.head = nn.Linear(512, 1)

    def forward(self, x: Tensor, **which: Tensor) -> Tensor:
        """`(B, 1)` logits."""
        logits: Tensor = self.head(self.pool(self.projection(x), **which))
        return logits
