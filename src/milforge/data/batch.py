"""A packed batch of bags, and how bags become one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from milforge.data.bag import Bag
from milforge.functional import segment_index
from milforge.graph.csr import block_diagonal


@dataclass(frozen=True, eq=False)
class BagBatch:
    """`B` bags with `N` instances in all, one below the other.

    Args:
        x: `(N, ...)` instances of all bags, or a mapping from stream name to `(N, D_s)`.
        ptr: `(B + 1,)` int64; bag b is `x[ptr[b]:ptr[b + 1]]`.
        adj: sparse CSR `(N, N)`, block diagonal, or None.
        y: `(B,)` or `(B, C)` bag labels, or None.
        y_inst: `(N,)` instance labels, -1 where unknown, or None where no bag has any.
        coords: `(N, 2)` or `(N, 3)`, or None.
        bag_id: the names of the bags.
        covariates: `(B, C)` float, or None.
        slide: `(N,)` int64, which slide of its patient an instance is of, or None.
        seeds: `(B,)` int64 in host memory, of what a network draws at random for each bag, or None.
    """

    x: Tensor | Mapping[str, Tensor]
    ptr: Tensor
    adj: Tensor | None
    y: Tensor | None
    y_inst: Tensor | None
    coords: Tensor | None
    bag_id: list[str]
    covariates: Tensor | None = None
    seeds: Tensor | None = None
    slide: Tensor | None = None

    def __len__(self) -> int:
        """Number of bags."""
        return len(self.ptr) - 1

    @property
    def num_instances(self) -> int:
        """Number of instances of all bags, `N`."""
        return len(self.x if isinstance(self.x, Tensor) else next(iter(self.x.values())))

    def to(self, device: torch.device | str) -> "BagBatch":
        """The batch on another device; without waiting for the copy where the target is a GPU."""
        non_blocking = torch.device(device).type == "cuda"
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "BagBatch":
        """The batch in page-locked memory, from which copies to a GPU overlap with its work."""
        return self._map(_pin)

    def share_memory(self) -> "BagBatch":
        """The batch in memory that other processes see.

        Raises:
            RuntimeError: where there is no room for it (torch's).
        """
        return self._map(share)

    def without_bags(self) -> "BagBatch":
        """A batch of no bags, with instances of the shape and dtype of these.

        It is the share of a process for which a global batch has no bag: the loss of it is zero,
        and so are its gradients.
        """
        adj = None
        if self.adj is not None:
            empty = self.ptr.new_empty(0)
            adj = torch.sparse_csr_tensor(
                self.ptr.new_zeros(1), empty, self.adj.values()[:0].clone(), (0, 0)
            )
        # Clones, because a slice keeps all it was cut from and takes it along to the workers.
        batch = replace(self, adj=None)._map(lambda tensor: tensor[:0].clone())
        return replace(batch, adj=adj, ptr=self.ptr.new_zeros(1), bag_id=[])

    def padded(self) -> tuple[Any, Tensor, Tensor | None]:
        """The padded form of the batch.

        Returns:
            `X` `(B, M, ...)` with M the largest bag size, zero where there is no instance (a
            mapping where `x` is one); `mask` `(B, M)` bool, True where there is one; `adj` sparse
            COO `(B, M, M)`, or None.
        """
        sizes = self.ptr.diff()
        longest = int(sizes.max()) if len(self) else 0
        positions = torch.arange(longest, device=self.ptr.device)
        mask = positions < sizes[:, None]

        def pad(x: Tensor) -> Tensor:
            out = x.new_zeros((len(self), longest, *x.shape[1:]))
            out[mask] = x
            return out

        x = pad(self.x) if isinstance(self.x, Tensor) else {k: pad(v) for k, v in self.x.items()}
        return x, mask, None if self.adj is None else self._padded_adjacency(self.adj, longest)

    def _padded_adjacency(self, adj: Tensor, longest: int) -> Tensor:
        rows = segment_index(adj.crow_indices(), adj.values().shape[0])
        bags = segment_index(self.ptr, self.num_instances)[rows]
        start = self.ptr[bags]
        indices = torch.stack([bags, rows - start, adj.col_indices() - start])
        size = (len(self), longest, longest)
        return torch.sparse_coo_tensor(
            indices, adj.values(), size, check_invariants=False, is_coalesced=True
        )

    def _map(self, function: Callable[[Tensor], Tensor]) -> "BagBatch":
        """The batch with the function applied to every tensor in it."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
            elif isinstance(value, Mapping):
                changed[field.name] = {key: function(tensor) for key, tensor in value.items()}
        return replace(self, **changed)


def collate_bags(bags: Sequence[Bag]) -> BagBatch:
    """Packs bags into a batch: for `DataLoader(..., collate_fn=collate_bags)`.

    Args:
        bags: at least one bag. Labels, coords, adjacencies, covariates and slides must be present
            in all of them or in none; missing instance labels become -1.

    Raises:
        ValueError: where a bag does not fit the others; the message names it.

    Example:
        >>> batch = collate_bags([Bag(torch.zeros(2, 5), y=0), Bag(torch.ones(3, 5), y=1)])
        >>> batch.x.shape, batch.ptr, batch.y
        (torch.Size([5, 5]), tensor([0, 2, 5]), tensor([0, 1]))
    """
    return collate_onto(bags, None)


def collate_onto(bags: Sequence[Bag], x: Tensor | Mapping[str, Tensor] | None) -> BagBatch:
    """The same of bags whose instances lie in memory one bag below the other: that is `x`.

    Args:
        bags: at least one bag.
        x: their instances; None: they are copied.

    Raises:
        ValueError: where a bag does not fit the others; the message names it.
    """
    if not bags:
        raise ValueError("expected at least one bag, got an empty list")
    for part in ("y", "coords", "adj", "covariates", "slide"):
        _check_all_or_none(bags, part)
    sizes = torch.tensor([0, *map(len, bags)])
    y = None
    if bags[0].y is not None:
        y = _join(bags, "label", [torch.as_tensor(bag.y) for bag in bags], torch.stack)
    y_inst = None
    if any(bag.y_inst is not None for bag in bags):
        y_inst = torch.cat([_instance_labels(bag) for bag in bags])
    coords = None
    if bags[0].coords is not None:
        coords = _join(bags, "coords", [bag.coords for bag in bags], torch.cat)
    covariates = None
    if bags[0].covariates is not None:
        covariates = _join(bags, "covariates", [bag.covariates for bag in bags], torch.stack)
    slides = [bag.slide for bag in bags]
    return BagBatch(
        x=_collate_x(bags) if x is None else x,
        ptr=sizes.cumsum(0),
        adj=None if bags[0].adj is None else _block_diagonal(bags),
        y=y,
        y_inst=y_inst,
        coords=coords,
        bag_id=[bag.bag_id for bag in bags],
        covariates=covariates,
        slide=None if bags[0].slide is None else _join(bags, "slide", slides, torch.cat),
    )


def _collate_x(bags: Sequence[Bag]) -> Tensor | dict[str, Tensor]:
    first = bags[0].x
    if isinstance(first, Tensor):
        return _join(bags, "x", [bag.x for bag in bags], torch.cat)
    for bag in bags:
        names = [] if isinstance(bag.x, Tensor) else sorted(bag.x)
        if names != sorted(first):
            raise ValueError(
                f"bag {bag.bag_id!r}: expected the streams {sorted(first)} of bag "
                f"{bags[0].bag_id!r}, got {names or 'a single tensor'}"
            )
    return {key: _join(bags, key, [bag.x[key] for bag in bags], torch.cat) for key in first}  # type: ignore[index]


def _join(
    bags: Sequence[Bag], name: str, parts: Sequence[Any], how: Callable[[list[Tensor]], Tensor]
) -> Tensor:
    """Stacks or concatenates the parts, after checking that they fit each other."""
    first = parts[0]
    free = 1 if how is torch.cat else 0
    for bag, part in zip(bags, parts, strict=True):
        if (
            not isinstance(part, Tensor)
            or part.shape[free:] != first.shape[free:]
            or part.dtype != first.dtype
        ):
            got = _describe(part, free) if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(
                f"bag {bag.bag_id!r}: expected {name} of {_describe(first, free)} as in bag "
                f"{bags[0].bag_id!r}, got {got}"
            )
    return how(list(parts))


def _describe(part: Tensor, free: int) -> str:
    shape = ", ".join(["N"] * free + [str(size) for size in part.shape[free:]])
    return f"shape ({shape}) and {part.dtype}"


def _check_all_or_none(bags: Sequence[Bag], part: str) -> None:
    present = [getattr(bag, part) is not None for bag in bags]
    if any(present) and not all(present):
        having, lacking = bags[present.index(True)].bag_id, bags[present.index(False)].bag_id
        raise ValueError(
            f"expected {part} in all bags of a batch or in none: bag {having!r} has it, "
            f"bag {lacking!r} does not"
        )


def _instance_labels(bag: Bag) -> Tensor:
    return torch.full((len(bag),), -1) if bag.y_inst is None else bag.y_inst.to(torch.int64)


def _block_diagonal(bags: Sequence[Bag]) -> Tensor:
    """The adjacencies, sparse CSR, one after the other along the diagonal."""
    parts = [bag.adj for bag in bags if bag.adj is not None]
    _join(bags, "adj", [part.values() for part in parts], torch.cat)  # checks their dtypes
    return block_diagonal(parts)


def share(tensor: Tensor) -> Tensor:
    """The tensor in memory that other processes see; moved there in place, where it is dense.

    Raises:
        RuntimeError: where there is no room for it (torch's).
    """
    if tensor.layout == torch.sparse_csr:
        return _each_part(tensor, share)
    if tensor.untyped_storage().nbytes():  # of none there is nothing to move
        tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


def _pin(tensor: Tensor) -> Tensor:
    if tensor.layout == torch.sparse_csr:
        return _each_part(tensor, Tensor.pin_memory)
    return tensor.pin_memory()


def _each_part(tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A sparse CSR tensor with the function applied to the dense ones that it consists of."""
    return torch.sparse_csr_tensor(
        function(tensor.crow_indices()),
        function(tensor.col_indices()),
        function(tensor.values()),
        tensor.shape,
        check_invariants=False,
    )


def unbatch(batch: BagBatch, values: Tensor) -> list[Tensor]:
    """Splits `(N, ...)` values of a batch's instances by bag.

    Example:
        >>> batch = collate_bags([Bag(torch.zeros(2, 1)), Bag(torch.zeros(1, 1))])
        >>> unbatch(batch, torch.tensor([1, 2, 3]))
        [tensor([1, 2]), tensor([3])]
    """
    bounds = batch.ptr.tolist()
    return [values[start:stop] for start, stop in pairwise(bounds)]
