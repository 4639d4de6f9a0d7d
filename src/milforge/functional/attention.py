"""Attention pooling of packed bags."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from milforge.functional.segment import segment_softmax, segment_sum, segment_weighted_sum

_aten = torch.ops.aten


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
}


def check_projection(act: str, **widths: int | None) -> None:
    """Checks the options of the projection of an attention.

    Args:
        act: its activation.
        widths: by the names of the options; None: not known yet.

    Raises:
        ValueError: for an unknown activation or a width below 1.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"expected act to be one of {sorted(ACTIVATIONS)}, got {act!r}")
    for name, width in widths.items():
        if width is not None and width < 1:
            raise ValueError(f"expected {name} of at least 1, got {width}")


class _Activation(NamedTuple):
    """An activation that overwrites its input where its slope follows from its output.

    Attributes:
        apply: gives the activated projection.
        multiply: multiplies a gradient in place by the slope, given what `apply` left behind.
        in_place: whether `apply` overwrites its input.
    """

    apply: Callable[[Tensor], Tensor]
    multiply: Callable[[Tensor, Tensor], Tensor]
    in_place: bool


_ACTIVATIONS = {
    "tanh": _Activation(
        torch.tanh_, lambda grad, y: _aten.tanh_backward(grad, y, grad_input=grad), True
    ),
    "relu": _Activation(
        torch.relu_, lambda grad, y: _aten.threshold_backward(grad, y, 0, grad_input=grad), True
    ),
    "gelu": _Activation(
        F.gelu, lambda grad, x: _aten.gelu_backward(grad, x, grad_input=grad), False
    ),
}


class _Scores(torch.autograd.Function):
    """`f`, with both projections below each other in `weight` where there is a gate.

    Tables of `N` rows cost more time to allocate than to fill: forward keeps one, of the
    projections, and backward makes one, of their gradients; both are written over in place.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, w: Tensor, act: str) -> Tensor:
        kept = F.linear(x, weight, bias)  # (N, A), gated (N, 2 A)
        value, *gate = torch.split(kept, w.shape[1], dim=1)
        hidden = _ACTIVATIONS[act].apply(value)
        if gate:
            hidden = hidden * gate[0].sigmoid_()
        ctx.save_for_backward(x, weight, w, kept)
        ctx.act = act
        return hidden @ w.t()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, w, kept = ctx.saved_tensors
        act = _ACTIVATIONS[ctx.act]
        value, *gate = torch.split(kept, w.shape[1], dim=1)
        activated = value if act.in_place else act.apply(value)
        table = torch.empty_like(kept)
        grad_value, *grad_gate = torch.split(table, w.shape[1], dim=1)
        if gate:
            grad_w = grad.t() @ torch.mul(activated, gate[0], out=grad_gate[0])
            torch.mm(grad, w, out=grad_value)
            torch.mul(grad_value, activated, out=grad_gate[0])
            _aten.sigmoid_backward(grad_gate[0], gate[0], grad_input=grad_gate[0])
            grad_value.mul_(gate[0])
        else:
            grad_w = grad.t() @ activated
            torch.mm(grad, w, out=grad_value)
        act.multiply(grad_value, value)
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        return (
            table @ weight if needs_x else None,
            table.t() @ x if needs_weight else None,
            table.sum(0) if needs_bias else None,
            grad_w,
            None,
        )


def attention_scores(
    x: Float[Tensor, "instances features"],
    w1: Float[Tensor, "att features"],
    b1: Float[Tensor, "att"],
    w: Float[Tensor, "1 att"],
    w2: Float[Tensor, "att features"] | None = None,
    b2: Float[Tensor, "att"] | None = None,
    act: str = "tanh",
) -> Float[Tensor, "instances"]:
    """Attention scores before the softmax (Ilse, Tomczak and Welling 2018, arXiv:1802.04712).

    `f = act(x W1^T + b1) w`, or, where `w2` is given, the gated
    `f = (act(x W1^T + b1) * sigmoid(x W2^T + b2)) w`.

    Args:
        x: `(N, D)`, the instances.
        w1: `(A, D)` projection.
        b1: `(A,)` its bias.
        w: `(1, A)`, from the projection to the score.
        w2: `(A, D)` projection of the gate.
        b2: `(A,)` its bias.
        act: tanh, relu or gelu.

    Returns:
        `(N,)`; in autocast's half precision under autocast. Differentiable once.
    """
    return scores_of_heads(x, w1, b1, w, w2, b2, act)[:, 0]


def scores_of_heads(
    x: Float[Tensor, "instances features"],
    w1: Float[Tensor, "att features"],
    b1: Float[Tensor, "att"],
    w: Float[Tensor, "heads att"],
    w2: Float[Tensor, "att features"] | None = None,
    b2: Float[Tensor, "att"] | None = None,
    act: str = "tanh",
) -> Float[Tensor, "instances heads"]:
    """As `attention_scores`, of K heads that share the projections: `w` `(K, A)` to `(N, K)`."""
    if w2 is not None and b2 is not None:
        # One product with both projections reads the instances once.
        w1, b1 = torch.cat([w1, w2]), torch.cat([b1, b2])
    parts = [x, w1, b1, w]
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        parts = [part.to(torch.get_autocast_dtype(device)) for part in parts]
    with torch.autocast(device, enabled=False):
        out: Tensor = _Scores.apply(*parts, act)  # type: ignore[no-untyped-call]
    return out


def attention_pool(
    x: Float[Tensor, "instances features"],
    scores: Float[Tensor, "instances *heads"],
    ptr: Int[Tensor, "bounds"],
) -> Float[Tensor, "bounds-1 *heads features"]:
    """Sum of the instances of each bag, weighted by the softmax of their scores.

    `s = softmax(f)` within each bag, `z = sum_n s_n x_n`. Both are computed in float32 or more,
    under autocast too. An empty bag gives 0.

    Args:
        x: `(N, D)`, the instances.
        scores: `(N,)` or `(N, K)`, attention scores of one head or of K.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B, D)` or `(B, K, D)`, in float32 where the inputs are of half precision.

    Example:
        >>> x = torch.tensor([[1.0], [3.0], [5.0]])
        >>> attention_pool(x, torch.zeros(3), torch.tensor([0, 2, 3]))
        tensor([[2.],
                [5.]])
    """
    return weighted_sums(x, segment_softmax(scores, ptr), ptr)


def weighted_sums(
    x: Float[Tensor, "instances features"],
    weights: Float[Tensor, "instances *heads"],
    ptr: Int[Tensor, "bounds"],
) -> Float[Tensor, "bounds-1 *heads features"]:
    """Weighted sums of the instances of each bag, one per head.

    Args:
        x: `(N, D)`, the instances.
        weights: `(N,)` or `(N, K)`, attention weights of one head or of K.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B, D)` or `(B, K, D)`, in float32 where the inputs are of half precision.
    """
    if weights.ndim == 1:
        return segment_weighted_sum(x, weights, ptr)
    if len(ptr) == 2:  # a single bag: one product of all heads reads its instances once
        dtype = torch.promote_types(torch.promote_types(x.dtype, weights.dtype), torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return (weights.t().to(dtype) @ x.to(dtype))[None]
    heads = weights.t().contiguous().unbind(0)
    return torch.stack([segment_weighted_sum(x, head, ptr) for head in heads], dim=1)


def attention_entropy(
    scores: Float[Tensor, "instances *heads"], ptr: Int[Tensor, "bounds"]
) -> Float[Tensor, "bounds-1 *heads"]:
    """Entropy of the attention weights of each bag, in nats: `-sum_n s_n log s_n`.

    An instance of weight 0 adds nothing, and no gradient; an empty bag gives 0.

    Args:
        scores: `(N,)` or `(N, K)`, attention scores of one head or of K.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)` or `(B, K)`.

    Example:
        >>> attention_entropy(torch.zeros(3), torch.tensor([0, 1, 3]))
        tensor([0.0000, 0.6931])
    """
    weights = segment_softmax(scores, ptr)
    some = weights > 0
    terms = torch.where(some, -weights * weights.where(some, 1.0).log(), 0.0)
    if scores.ndim == 2:
        return segment_sum(terms, ptr)
    return segment_sum(terms[:, None], ptr)[:, 0]
