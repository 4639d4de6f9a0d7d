"""Slow, obvious oracles in float64, one bag at a time, and bags to try them on."""

from collections.abc import Callable
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


def make_graph(
    sizes: list[int] | tuple[int, ...], seed: int = 0, how: str = "sym", density: float = 0.4
) -> Tensor:
    """Random symmetric weights within bags of these sizes, normalised: dense `(N, N)` float64.

    The first instance of every bag has no neighbour.
    """
    generator = torch.Generator().manual_seed(seed)
    size = sum(sizes)
    weights = torch.zeros(size, size, dtype=torch.float64)
    start = 0
    for bag in sizes:
        for i in range(start + 1, start + bag):
            for j in range(i + 1, start + bag):
                if torch.rand((), generator=generator) < density:
                    weights[i, j] = weights[j, i] = torch.rand((), generator=generator) + 0.1
        start += bag
    adj = torch.zeros_like(weights)
    degree = weights.sum(1)
    for i in range(size):
        if degree[i] == 0:
            adj[i, i] = 1.0
        for j in range(size):
            if weights[i, j] > 0:
                scale = (degree[i] * degree[j]).sqrt() if how == "sym" else degree[i]
                adj[i, j] = weights[i, j] / scale
    return adj


def pad_adjacency(
    adj: Tensor, ptr: Tensor, fill: float = 0.0, longest: int | None = None
) -> Tensor:
    """Padded `(B, M, M)` form of a dense `(N, N)`, with what stands in padded rows and columns."""
    bounds = list(pairwise(ptr.tolist()))
    longest = max(stop - start for start, stop in bounds) if longest is None else longest
    padded = adj.new_full((len(bounds), longest, longest), fill)
    for b, (start, stop) in enumerate(bounds):
        padded[b, : stop - start, : stop - start] = adj[start:stop, start:stop]
    return padded


def sm_approx(u: Tensor, adj: Tensor, alpha: Tensor | float, num_steps: int) -> Tensor:
    """Step after step, with a dense matrix."""
    g = u
    for _ in range(num_steps):
        g = alpha * (adj @ g) + (1 - alpha) * u
    return g


def sm_exact(u: Tensor, adj: Tensor, gamma: Tensor | float) -> Tensor:
    """The solution of the dense system."""
    eye = torch.eye(len(adj), dtype=adj.dtype)
    columns = u[:, None] if u.ndim == 1 else u
    return torch.linalg.solve(eye + gamma * (eye - adj), columns).reshape(u.shape)


def sm(u: Tensor, adj: Tensor, alpha: Tensor | float, num_steps: int, mode: str) -> Tensor:
    """Either, by the one meaning of alpha."""
    if mode == "approx":
        return sm_approx(u, adj, alpha, num_steps)
    return sm_exact(u, adj, alpha / (1 - alpha))


def sm_attention_pool(
    x: Tensor,
    adj: Tensor,
    ptr: Tensor,
    w1: Tensor,
    b1: Tensor,
    w: Tensor,
    w2: Tensor | None,
    b2: Tensor | None,
    act: str,
    where: str,
    smooth: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """`z` and `f` as the formulas read: `early` smooths the instances themselves."""
    if where == "early":
        x = smooth(x, adj)
    hidden = x @ w1.T + b1
    hidden = smooth(hidden, adj) if where == "mid" else hidden
    hidden = ACTIVATIONS[act](hidden)
    if w2 is not None and b2 is not None:
        gate = x @ w2.T + b2
        gate = smooth(gate, adj) if where == "mid" else gate
        hidden = hidden / (1 + torch.exp(-gate))
    f = hidden @ w[0]
    f = smooth(f, adj) if where == "late" else f
    return attention_pool(x, f, ptr), f
