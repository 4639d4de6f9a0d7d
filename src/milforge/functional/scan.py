"""Linear recurrences."""

from typing import Any

import torch
from torch import Tensor


def linear_scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """`h_t = decay_t h_{t-1} + inputs_t`, with `h_{-1} = 0`, along the first axis.

    A decay of 0 begins anew: so do the bags of a packed batch. About `2 sqrt(T)` steps are taken
    one after the other, each for many rows at a time. Differentiable once.

    Args:
        decay: `(T, F)` float.
        inputs: `(T, F)` float.

    Returns:
        `(T, F)`.

    Example:
        >>> linear_scan(torch.tensor([[0.0], [2.0], [0.0]]), torch.ones(3, 1)).flatten()
        tensor([1., 3., 1.])
    """
    out: Tensor = _LinearScan.apply(decay, inputs)  # type: ignore[no-untyped-call]
    return out


class _LinearScan(torch.autograd.Function):
    """Backward is the same recurrence from the last row to the first."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor) -> Tensor:
        states = _scan(decay, inputs)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        later = torch.cat([decay[1:], torch.zeros_like(decay[:1])])  # decays of the next row
        grad_inputs = _scan(later.flip(0), grad.flip(0)).flip(0)
        former = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        return grad_inputs * former, grad_inputs


def _scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """In chunks: all of them step by step side by side, then what each hands on to the next."""
    length, width = inputs.shape
    steps = max(1, round(length**0.5))
    chunks = -(-length // steps)
    states = inputs.new_zeros(chunks * steps, width)
    kept = inputs.new_zeros(chunks * steps, width)  # what is left of what was before the chunk
    states[:length], kept[:length] = inputs, decay
    states, kept = states.reshape(chunks, steps, width), kept.reshape(chunks, steps, width)
    for t in range(1, steps):
        states[:, t].addcmul_(kept[:, t], states[:, t - 1])
        kept[:, t].mul_(kept[:, t - 1])
    for c in range(1, chunks):
        states[c].addcmul_(kept[c], states[c - 1, -1].clone())
    return states.reshape(-1, width)[:length]
