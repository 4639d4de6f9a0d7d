"""Reductions over the bags of a packed batch.

A packed batch is one table of `N` instances and a pointer `ptr` of `B + 1` integers; bag `b` is
the rows `ptr[b]:ptr[b + 1]`. Reductions use CSR matrix products, of a single bag dense ones, which
take half the time; both read the table once and never write a copy of it. Nothing here synchronises
a GPU.
"""

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

with warnings.catch_warnings():
    # torch says once a process that its CSR support is in beta: say it to nobody.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), [], (1, 0))


def segment_index(ptr: Int[Tensor, "bounds"], size: int) -> Int[Tensor, "instances"]:
    """Bag number of each instance.

    Args:
        ptr: `(B + 1,)` int64, the bag boundaries.
        size: `N`, equal to `ptr[-1]`; given so that no GPU is asked for it.

    Example:
        >>> segment_index(torch.tensor([0, 2, 2, 3]), 3)
        tensor([0, 0, 2])
    """
    bags = torch.arange(len(ptr) - 1, device=ptr.device)
    return torch.repeat_interleave(bags, ptr.diff(), output_size=size)


def _csr(ptr: Tensor, values: Tensor) -> Tensor:
    """The `(B, N)` matrix whose row b holds the values of bag b in the columns of its rows."""
    columns = torch.arange(len(values), device=ptr.device)
    size = (len(ptr) - 1, len(values))
    return torch.sparse_csr_tensor(ptr, columns, values, size, check_invariants=False)


class _SegmentWeightedSum(torch.autograd.Function):
    """`z_b = sum_n w_n x_n`; the gradient of `w` is a sampled product, `N` numbers, no table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, ptr: Tensor) -> Tensor:
        ctx.save_for_backward(x, weights, ptr)
        return _csr(ptr, weights) @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weights, ptr = ctx.saved_tensors
        grad_x = grad_weights = None
        if ctx.needs_input_grad[0]:
            # In place: the table of gradients is as large as x, and is written once.
            grad_x = grad.index_select(0, segment_index(ptr, len(x))).mul_(weights[:, None])
        if ctx.needs_input_grad[1]:
            sampled = torch.sparse.sampled_addmm(
                _csr(ptr, torch.zeros_like(weights)), grad.contiguous(), x.t()
            )
            grad_weights = sampled.values()
        return grad_x, grad_weights, None


def segment_weighted_sum(
    x: Float[Tensor, "instances features"],
    weights: Float[Tensor, "instances"],
    ptr: Int[Tensor, "bounds"],
) -> Float[Tensor, "bounds-1 features"]:
    """Weighted sum of the instances of each bag, `z_b = sum_{n in b} w_n x_n`.

    Half-precision inputs are summed, and returned, in float32. An empty bag gives 0.

    Args:
        x: `(N, D)` float, the instances.
        weights: `(N,)` float, one weight an instance.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B, D)`.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> segment_weighted_sum(x, torch.tensor([0.5, 0.5, 2.0]), torch.tensor([0, 2, 3]))
        tensor([[ 2.,  3.],
                [10., 12.]])
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, weights.dtype), torch.float32)
    x, weights = x.to(dtype), weights.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        if len(ptr) == 2:  # a single bag, of which a CSR product would be one long row
            return (weights @ x)[None]
        out: Tensor = _SegmentWeightedSum.apply(x, weights, ptr)  # type: ignore[no-untyped-call]
    return out


def segment_sum(
    x: Float[Tensor, "instances features"], ptr: Int[Tensor, "bounds"]
) -> Float[Tensor, "bounds-1 features"]:
    """Sum of the instances of each bag: `(N, D)` to `(B, D)`; an empty bag gives 0.

    Example:
        >>> segment_sum(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 2, 3]))
        tensor([[3.],
                [0.],
                [4.]])
    """
    return segment_weighted_sum(x, x.new_ones(len(x)), ptr)


def segment_mean(
    x: Float[Tensor, "instances features"], ptr: Int[Tensor, "bounds"]
) -> Float[Tensor, "bounds-1 features"]:
    """Mean of the instances of each bag: `(N, D)` to `(B, D)`; an empty bag gives 0.

    Example:
        >>> segment_mean(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 2, 3]))
        tensor([[1.5000],
                [0.0000],
                [4.0000]])
    """
    total = segment_sum(x, ptr)
    return total / ptr.diff().clamp(min=1)[:, None].to(total.dtype)


class _SegmentMax(torch.autograd.Function):
    """`max_n x_n`; torch would share a gradient between ties only where it is positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ptr: Tensor) -> Tensor:
        out = torch.segment_reduce(x, "max", offsets=ptr, axis=0, unsafe=True)
        out.masked_fill_((ptr.diff() == 0)[:, None], 0.0)
        ctx.save_for_backward(x, out, ptr)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, out, ptr = ctx.saved_tensors
        index = segment_index(ptr, len(x))
        # In place, as are the gradients: each table is as large as x.
        hit = out.index_select(0, index).eq_(x)
        ties = segment_sum(hit, ptr).clamp(min=1)
        return (grad / ties).to(x.dtype).index_select(0, index).mul_(hit), None


def segment_max(
    x: Float[Tensor, "instances features"], ptr: Int[Tensor, "bounds"]
) -> Float[Tensor, "bounds-1 features"]:
    """Largest value of each feature in each bag: `(N, D)` to `(B, D)`; an empty bag gives 0.

    Where instances tie, the gradient is shared equally between them.

    Example:
        >>> segment_max(torch.tensor([[1.0], [2.0], [-4.0]]), torch.tensor([0, 2, 2, 3]))
        tensor([[ 2.],
                [ 0.],
                [-4.]])
    """
    out: Tensor = _SegmentMax.apply(x, ptr)  # type: ignore[no-untyped-call]
    return out


def segment_softmax(
    scores: Float[Tensor, "instances *heads"], ptr: Int[Tensor, "bounds"]
) -> Float[Tensor, "instances *heads"]:
    """Softmax of the scores within each bag.

    `s_n = exp(f_n - max_b f) / sum_{m in b} exp(f_m - max_b f)`, in float32 or more whatever the
    input, so that the weights of a bag of 100,000 instances sum to 1 under autocast too.

    Args:
        scores: `(N,)` or `(N, K)` float, attention scores of one head or of K. A score of -inf
            gives a weight of 0; a bag of nothing but -inf gives weights of 0.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        Attention weights, of the shape of the scores.

    Example:
        >>> segment_softmax(torch.tensor([0.0, 0.0, 7.0]), torch.tensor([0, 2, 3]))
        tensor([0.5000, 0.5000, 1.0000])
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    index = segment_index(ptr, len(scores))
    top = torch.segment_reduce(scores.detach(), "max", offsets=ptr, axis=0, unsafe=True)
    top = top.masked_fill(torch.isneginf(top), 0.0)  # -inf - -inf would be NaN
    exp = torch.exp(scores - top[index])
    # A CSR product adds one by one: in float32 the rounding of a large bag would show.
    table = exp.double() if exp.ndim == 2 else exp.double()[:, None]
    total = segment_sum(table, ptr).to(exp.dtype).reshape(top.shape)
    # The largest score adds exp(0) = 1, so that only a bag of nothing but -inf lies below 1.
    return exp / total.clamp(min=1.0)[index]
