"""Slow, obvious oracles in float64, one bag at a time, and bags to try them on."""

from itertools import pairwise

import torch
from torch import Tensor

ACTIVATIONS = {
    "tanh": lambda v: (v.exp() - (-v).exp()) / (v.exp() + (-v).exp()),
    "relu": lambda v: v * (v > 0),
    "gelu": lambda v: 0.5 * v * (1 + torch.erf(v / 2**0.5)),
}


def make_bags(
    sizes: list[int] | tuple[int, ...], width: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Normal instances `(N, width)` in float64, and the pointer of bags of these sizes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), width, generator=generator, dtype=torch.float64)
    return x, torch.tensor([0, *sizes]).cumsum(0)


def pad(
    x: Tensor, ptr: Tensor, fill: float = 0.0, longest: int | None = None
) -> tuple[Tensor, Tensor]:
    """Padded `(B, M, ...)` form of packed bags, with what stands in padded rows, and the mask."""
    bags = split(x, ptr)
    longest = max(map(len, bags)) if longest is None else longest
    padded = x.new_full((len(bags), longest, *x.shape[1:]), fill)
    mask = torch.zeros(len(bags), longest, dtype=torch.bool)
    for b, bag in enumerate(bags):
        for n, instance in enumerate(bag):
            padded[b, n] = instance
            mask[b, n] = True
    return padded, mask


def split(x: Tensor, ptr: Tensor) -> list[Tensor]:
    """The bags of a packed table."""
    return [x[start:stop] for start, stop in pairwise(ptr.tolist())]


def segment_weighted_sum(x: Tensor, weights: Tensor, ptr: Tensor) -> Tensor:
    """Instance after instance is weighted and added."""
    out = torch.zeros(len(ptr) - 1, *x.shape[1:], dtype=torch.float64)
    for b, (start, stop) in enumerate(pairwise(ptr.tolist())):
        for n in range(start, stop):
            out[b] += weights[n].double() * x[n].double()
    return out


def segment_sum(x: Tensor, ptr: Tensor) -> Tensor:
    """Instance after instance is added."""
    return segment_weighted_sum(x, torch.ones(len(x)), ptr)


def segment_mean(x: Tensor, ptr: Tensor) -> Tensor:
    """The sum over the number; 0 for a bag of nothing."""
    sums = segment_sum(x, ptr)
    return torch.stack(
        [total / max(len(bag), 1) for total, bag in zip(sums, split(x, ptr), strict=True)]
    )


def segment_max(x: Tensor, ptr: Tensor) -> Tensor:
    """The largest by comparison; 0 for a bag of nothing."""
    zero = torch.zeros(x.shape[1:], dtype=torch.float64)
    return torch.stack([bag.double().amax(0) if len(bag) else zero for bag in split(x, ptr)])


def segment_softmax(scores: Tensor, ptr: Tensor) -> Tensor:
    """Softmax bag by bag; 0 for a bag of nothing but -inf."""
    parts = [torch.softmax(bag.double(), 0).nan_to_num(0.0) for bag in split(scores, ptr)]
    return torch.cat(parts)


def attention_scores(
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w: Tensor,
    w2: Tensor | None = None,
    b2: Tensor | None = None,
    act: str = "tanh",
) -> Tensor:
    """`act(W1 x + b1) . w` or `(act(W1 x + b1) * sigmoid(W2 x + b2)) . w`, one by one."""
    scores = []
    for instance in x.double():
        hidden = ACTIVATIONS[act](w1.double() @ instance + b1.double())
        if w2 is not None and b2 is not None:
            hidden = hidden / (1 + torch.exp(-(w2.double() @ instance + b2.double())))
        scores.append(w.double()[0] @ hidden)
    return torch.stack(scores) if scores else x.new_zeros(0, dtype=torch.float64)


def attention_pool(x: Tensor, scores: Tensor, ptr: Tensor) -> Tensor:
    """`sum_n softmax(f)_n x_n`, bag by bag."""
    return segment_weighted_sum(x, segment_softmax(scores, ptr), ptr)
