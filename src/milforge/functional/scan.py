"""Linear recurrences."""

from typing import Any

import torch
from torch import Tensor


def linear_scan(decay: Tensor, inputs: Tensor, starts: Tensor | None = None) -> Tensor:
    """`h_t = decay_t h_{t-1} + inputs_t`, with `h_{-1} = 0`, along the first axis.

    About `2 sqrt(T)` steps are taken one after the other, each for many rows at a time.
    Differentiable once.

    Args:
        decay: `(T, F)` float.
        inputs: `(T, F)` float.
        starts: int64, rows where it begins anew, whatever their decay, as at the first instance
            of each bag of a packed batch; row 0 is one in any case.

    Returns:
        `(T, F)`.

    Example:
        >>> linear_scan(2 * torch.ones(3, 1), torch.ones(3, 1), torch.tensor([0, 2])).flatten()
        tensor([1., 3., 1.])
    """
    if starts is None:
        starts = torch.zeros(0, dtype=torch.int64, device=decay.device)
    out: Tensor = _LinearScan.apply(decay, inputs, starts)  # type: ignore[no-untyped-call]
    return out


class _LinearScan(torch.autograd.Function):
    """Backward is the same recurrence from the last row to the first."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor, starts: Tensor) -> Tensor:
        states, kept = _in_chunks(inputs), _in_chunks(decay)
        kept.view(-1, decay.shape[1])[starts] = 0
        chunks, steps, _ = states.shape
        for t in range(1, steps):
            states[:, t].addcmul_(kept[:, t], states[:, t - 1])
            kept[:, t].mul_(kept[:, t - 1])
        for c in range(1, chunks):
            states[c].addcmul_(kept[c], states[c - 1, -1].clone())
        states = states.view(-1, inputs.shape[1])[: len(inputs)]
        ctx.save_for_backward(decay, states, starts)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        decay, states, starts = ctx.saved_tensors
        found, kept = _in_chunks(grad), _in_chunks(decay[1:], len(decay))
        kept.view(-1, decay.shape[1])[starts - 1] = 0  # before row 0 is the last one, which is 0
        chunks, steps, _ = found.shape
        for t in range(steps - 2, -1, -1):
            found[:, t].addcmul_(kept[:, t], found[:, t + 1])
            kept[:, t].mul_(kept[:, t + 1])
        for c in range(chunks - 2, -1, -1):
            found[c].addcmul_(kept[c], found[c + 1, 0].clone())
        grad_inputs = found.view(-1, grad.shape[1])[: len(grad)]
        grad_decay = torch.empty_like(decay)
        torch.mul(grad_inputs[1:], states[:-1], out=grad_decay[1:])
        grad_decay[:1] = 0
        grad_decay[starts] = 0
        return grad_decay, grad_inputs, None


def _in_chunks(rows: Tensor, length: int | None = None) -> Tensor:
    """A copy `(chunks, steps, F)` of rows `(T, F)`, filled up by 0.

    All chunks go step by step side by side; then each is given what the previous one hands on, of
    which `kept` is left in each of its rows.
    """
    length = len(rows) if length is None else length
    steps = max(1, round(length**0.5))
    chunks = -(-length // steps)
    table = rows.new_empty(chunks * steps, rows.shape[1])
    table[: len(rows)] = rows
    table[len(rows) :] = 0
    return table.view(chunks, steps, rows.shape[1])
