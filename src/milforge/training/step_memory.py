"""What a training step takes of the memory of a device, found on small batches on the CPU."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from milforge.data import BagBatch
from milforge.data.bag import streams_of
from milforge.training.precision import single_batch

MOST = 8192  # instances of the largest batch that is tried
_STRAIGHT = 0.02  # part of the memory by which growth may differ from a line, and counts as one
_SAME = 0.7  # part of the bend of a parabola at small counts that is there at larger ones


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a training step takes on its device.

    Args:
        batch: the instances as they are stored, coords and graph beside them.
        peak: most that forward and backward hold beside the batch at a time.
        weights: weights, buffers and the state of the optimiser.
    """

    batch: int
    peak: int
    weights: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.batch + self.peak + self.weights


def largest_batch(
    sizes: Sequence[int], batch_size: int, max_instances: int | None = None
) -> list[int]:
    """The sizes of the bags of a batch that no batch of the loader has more instances than.

    It is filled with the largest bags; one that does not fit is counted with the instances that do.

    Args:
        sizes: of all bags.
        batch_size: most bags in a batch.
        max_instances: most instances in a batch of several bags; None: no limit.

    Example:
        >>> largest_batch([5, 90, 40, 30], batch_size=3)
        [90, 40, 30]
        >>> largest_batch([5, 90, 40, 30], batch_size=3, max_instances=100)
        [90, 10]
        >>> largest_batch([5, 90, 40, 30], batch_size=3, max_instances=50)
        [90]
    """
    batch: list[int] = []
    for size in sorted(sizes, reverse=True)[:batch_size]:
        left = size if max_instances is None or not batch else max_instances - sum(batch)
        if left <= 0:
            break
        batch.append(min(size, left))
    return batch


def step_memory(
    network: nn.Module,
    make_batch: Callable[[Sequence[int]], BagBatch],
    sizes: Sequence[int],
    *,
    standardise: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    half: bool = False,
    most: int = MOST,
) -> StepMemory:
    """What a step with a batch takes; one of more than `most` instances is extrapolated.

    Four steps are taken on the CPU with fewer instances in bags of the same proportions, and their
    growth, linear or quadratic, is carried on. What operators use inside and give back at once is
    not counted, nor is what an allocator keeps, CUDA itself, the loss of the task, and further
    copies of the batch.

    Args:
        network: maps a batch to a `BagOutput`; its gradients are overwritten.
        make_batch: a batch of bags of these sizes, as the loader gives it, with seeds.
        sizes: of the bags of the batch.
        standardise: what is done to the features before the network sees them.
        optimizer: of the network; it makes a step. None: nothing is trained.
        half: whether the trainer has a precision of 16-mixed or bf16-mixed.
        most: instances of the largest batch that is tried.
    """

    def step(batch: BagBatch) -> tuple[int, int]:
        network.zero_grad()
        peak = _peak(network, batch, standardise, half=half)
        return _nbytes(_tensors(batch)), peak

    network.train()
    measured = []
    for tried in _tried(sizes, most):
        measured.append((sum(tried), *step(make_batch(tried))))
    state: Iterable[Any] = ()
    if optimizer is not None:
        optimizer.step()
        state = tree_leaves(list(optimizer.state.values()))
    standing = [*network.parameters(), *network.buffers(), *state]
    counts, batches, peaks = zip(*measured, strict=True)
    return StepMemory(
        batch=carried_on(counts, batches, sum(sizes)),
        peak=carried_on(counts, peaks, sum(sizes)),
        weights=_nbytes(each for each in standing if isinstance(each, Tensor)),
    )


def carried_on(counts: Sequence[int], values: Sequence[int], count: int) -> int:
    """Values at four rising counts, carried on to a higher one; a single value is given back.

    On the line through the last two; on the parabola through the last three where they lie on one,
    and the first four do, too: edges of a graph, of which small bags have fewer per instance, bend
    the line at first alone.

    Example:
        >>> carried_on([1, 2, 4, 8], [130, 160, 220, 340], 10)
        400
        >>> carried_on([1, 2, 4, 8], [101, 104, 116, 164], 10)
        200
    """
    if len(counts) == 1:
        return values[0]
    pairs = list(zip(counts, values, strict=True))
    slopes = [(v - u) / (b - a) for (a, u), (b, v) in pairwise(pairs)]
    before, bend = (
        (slopes[i + 1] - slopes[i]) / (counts[i + 2] - counts[i]) for i in range(len(slopes) - 1)
    )
    *_, b, c = counts
    straight = values[-1] + slopes[-1] * (count - c)
    above = bend * (c - counts[-3]) * (b - counts[-3])  # of the third from last over the line
    if above <= _STRAIGHT * values[-1] or bend < _SAME * before:
        return round(straight)
    return round(straight + bend * (count - b) * (count - c))


def _tried(sizes: Sequence[int], most: int) -> list[list[int]]:
    """The batches that are tried: this one, or four of the same proportions."""
    total = sum(sizes)
    if total <= most:
        return [list(sizes)]
    counts = (most // 8, most // 4, most // 2, most)
    return [[max(1, round(size * count / total)) for size in sizes] for count in counts]


def _peak(network: nn.Module, batch: BagBatch, standardise: nn.Module | None, *, half: bool) -> int:
    """Most bytes that a step holds at a time beside weights, buffers and the batch."""
    given = [*_tensors(batch), *network.parameters(), *network.buffers()]
    given += [] if standardise is None else list(standardise.buffers())
    autocast: AbstractContextManager[Any] = nullcontext()
    if half:
        autocast = torch.autocast("cpu", torch.bfloat16)
    with _Held(given) as held:
        seen = single_batch(batch, standardise)
        with autocast:
            output = network(seen)
        loss = output.logits.float().square().sum()
        loss = loss + sum(each.logits.float().square().sum() for each in output.auxiliary)
        if output.penalty is not None:
            loss = loss + output.penalty
        loss.backward()
    return int(held.peak)


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the memory of tensors that operators make, as long as something holds them.

    Args:
        given: tensors whose memory is not counted.
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known = {part.untyped_storage()._cdata for each in given for part in _parts(each)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                for part in _parts(each):
                    self._count(part)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes()).atexit = False

    def _freed(self, number: int, nbytes: int) -> None:
        self._known.discard(number)
        self.now -= nbytes


def _tensors(batch: BagBatch) -> list[Tensor]:
    others = (batch.ptr, batch.adj, batch.coords, batch.seeds)
    return [*streams_of(batch.x).values(), *(each for each in others if each is not None)]


def _parts(tensor: Tensor) -> list[Tensor]:
    """The dense tensors that one consists of."""
    if tensor.layout == torch.sparse_csr:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor]


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(part.nbytes for each in tensors for part in _parts(each))
