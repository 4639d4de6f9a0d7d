"""Parts of a bag as bags of their own: what a model says of a bag without some of its instances."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from milforge.data import BagBatch
from milforge.graph.csr import block_diagonal, from_scipy, to_scipy

MOST_AT_ONCE = 32_768  # instances in a batch of parts; a larger part is a batch of its own


def sub_bags(batch: BagBatch, parts: Sequence[Tensor], *, graph: bool = True) -> BagBatch:
    """Parts of the only bag of a batch, without labels, each as a bag.

    The graph of a part has the edges among its instances, with the weights that they had.

    Args:
        batch: of one bag.
        parts: at least one; each `(n,)` int64, the numbers of its instances.
        graph: whether the parts keep their graph.

    Example:
        >>> from milforge.data import Bag, collate_bags
        >>> batch = collate_bags([Bag(torch.arange(3.0)[:, None])])
        >>> parts = sub_bags(batch, [torch.tensor([0, 2]), torch.tensor([1])])
        >>> parts.ptr, parts.x.flatten()
        (tensor([0, 2, 3]), tensor([0., 2., 1.]))
    """
    device = batch.ptr.device
    rows = torch.cat(list(parts)).to(device)
    adj = None
    if graph and batch.adj is not None:
        whole = to_scipy(batch.adj.cpu()).tocsr()
        kept = [part.cpu().numpy() for part in parts]
        blocks = [from_scipy(whole[own][:, own], batch.adj.dtype) for own in kept]
        adj = block_diagonal(blocks).to(device)

    def of_bag(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[[0] * len(parts)]

    def of_rows(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[rows]

    x = batch.x[rows] if isinstance(batch.x, Tensor) else {n: s[rows] for n, s in batch.x.items()}
    return replace(
        batch,
        x=x,
        ptr=torch.tensor([0, *map(len, parts)], device=device).cumsum(0),
        adj=adj,
        y=None,
        y_inst=None,
        coords=of_rows(batch.coords),
        slide=of_rows(batch.slide),
        bag_id=batch.bag_id * len(parts),
        covariates=of_bag(batch.covariates),
        seeds=of_bag(batch.seeds),
    )


def logits_of_parts(members: Sequence[tuple[Any, BagBatch]], parts: Sequence[Tensor]) -> Tensor:
    """`(len(parts), O)` float64: the mean logits of modules, of each part of a bag.

    Args:
        members: each a `MILModule` in evaluation with the batch, of one bag, as it is to see it.
        parts: as in `sub_bags`.
    """
    each = []
    for member, batch in members:
        found = [member(sub_bags(batch, few)).logits for few in _few_at_once(parts)]
        each.append(torch.cat(found).detach().double().cpu())
    return torch.stack(each).mean(0)


def _few_at_once(parts: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    few: list[Tensor] = []
    for part in parts:
        if few and sum(map(len, few)) + len(part) > MOST_AT_ONCE:
            yield few
            few = []
        few.append(part)
    if few:
        yield few
