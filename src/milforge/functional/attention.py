"""Attention pooling of packed bags."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from milforge.functional.segment import segment_softmax, segment_weighted_sum

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
}


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
        `(N,)`.
    """
    if w2 is None or b2 is None:
        hidden = ACTIVATIONS[act](torch.nn.functional.linear(x, w1, b1))
    else:
        # One product with both projections reads the instances once.
        both = torch.nn.functional.linear(x, torch.cat([w1, w2]), torch.cat([b1, b2]))
        value, gate = both.chunk(2, dim=1)
        hidden = ACTIVATIONS[act](value) * torch.sigmoid(gate)
    return torch.nn.functional.linear(hidden, w)[:, 0]


def attention_pool(
    x: Float[Tensor, "instances features"],
    scores: Float[Tensor, "instances"],
    ptr: Int[Tensor, "bounds"],
) -> Float[Tensor, "bounds-1 features"]:
    """Sum of the instances of each bag, weighted by the softmax of their scores.

    `s = softmax(f)` within each bag, `z = sum_n s_n x_n`. Both are computed in float32 or more,
    under autocast too. An empty bag gives 0.

    Args:
        x: `(N, D)`, the instances.
        scores: `(N,)`, attention scores.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B, D)`, in float32 where the inputs are of half precision.

    Example:
        >>> x = torch.tensor([[1.0], [3.0], [5.0]])
        >>> attention_pool(x, torch.zeros(3), torch.tensor([0, 2, 3]))
        tensor([[2.],
                [5.]])
    """
    return segment_weighted_sum(x, segment_softmax(scores, ptr), ptr)
