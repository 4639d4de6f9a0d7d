"""Which instances of each bag have the highest scores, for all bags of a packed batch at once."""

import torch
from torch import Tensor

from milforge.functional.segment import segment_index


def segment_rank(scores: Tensor, ptr: Tensor) -> Tensor:
    """Rank of each score within its bag, from 0, the highest first; equals by their place.

    Args:
        scores: `(N,)` or `(N, K)`, each column of which is ranked by itself.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        int64, of the shape of the scores.

    Example:
        >>> segment_rank(torch.tensor([1.0, 3.0, 2.0, 5.0]), torch.tensor([0, 3, 4]))
        tensor([2, 0, 1, 0])
    """
    bag = segment_index(ptr, len(scores))
    order = scores.detach().argsort(dim=0, descending=True, stable=True)
    order = order.gather(0, bag[order].argsort(dim=0, stable=True))
    place = torch.arange(len(scores), device=scores.device) - ptr[bag]
    if scores.ndim == 2:
        place = place[:, None].expand_as(order)
    return torch.empty_like(order).scatter_(0, order, place)


def segment_argmax(scores: Tensor, ptr: Tensor) -> Tensor:
    """Row of the highest score of each bag; of equal ones the first.

    Args:
        scores: `(N,)` or `(N, K)`, each column of which is searched by itself.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)` or `(B, K)` int64; of an empty bag a row of another one, or 0.

    Example:
        >>> segment_argmax(torch.tensor([1.0, 3.0, 2.0, 5.0]), torch.tensor([0, 3, 4]))
        tensor([1, 3])
    """
    scores = scores.detach()
    bag = segment_index(ptr, len(scores))
    top = torch.segment_reduce(scores, "max", offsets=ptr, axis=0, unsafe=True)
    row = torch.arange(len(scores), device=scores.device)
    if scores.ndim == 2:
        row = row[:, None].expand_as(scores)
        bag = bag[:, None].expand_as(scores)
    last = max(len(scores) - 1, 0)
    found = torch.where(scores == top.gather(0, bag), row, last)
    out = torch.full_like(top, last, dtype=torch.int64)
    return out.scatter_reduce_(0, bag, found, "amin")
