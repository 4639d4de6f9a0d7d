"""Selective state spaces over the instances of each bag, in plain PyTorch."""

from functools import partial
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from milforge.functional import linear_scan, segment_index

_BLOCK = 64  # channels whose states are held at a time


class SelectiveScan(nn.Module):
    r"""A recurrence whose steps depend on the instance (Gu and Dao 2023, arXiv:2312.00752).

    Of channels `x`, after a causal depthwise convolution and SiLU, with
    `dt = softplus(W_dt W_r x)`, `B = W_B x`, `C = W_C x`, and `A < 0` of each channel and state,

    $$ h_t = e^{dt_t A} h_{t-1} + dt_t B_t x_t \qquad y_t = C_t^\top h_t + D x_t $$

    Each bag begins with an empty state. The states of a few channels are held at a time, and are
    computed again in the backward pass.

    Args:
        dim: number of channels.
        state: size of the state of each.
        kernel: taps of the convolution.
        rank: rank of the projection to `dt`.
    """

    def __init__(self, dim: int, state: int = 16, kernel: int = 4, rank: int = 32) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.steer = nn.Linear(dim, rank + 2 * state, bias=False)  # of dt, B and C
        self.step = nn.Linear(rank, dim)
        self.log_decay = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(dim, 1))
        self.skip = nn.Parameter(torch.ones(dim))
        self.ends = (rank, rank + state)
        with torch.no_grad():  # steps from 0.001 to 0.1
            nn.init.uniform_(self.step.weight, -(rank**-0.5), rank**-0.5)
            steps = (torch.rand(dim) * (log(0.1) - log(0.001)) + log(0.001)).exp()
            self.step.bias.copy_(steps + (-(-steps).expm1()).log())  # inverse of softplus

    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """`(N, E)` to the same, for packed bags."""
        place = torch.arange(len(x), device=x.device) - ptr[segment_index(ptr, len(x))]
        x = F.silu(self._convolved(x, place))
        steer, b, c = torch.tensor_split(self.steer(x), self.ends, dim=1)
        dt = F.softplus(self.step(steer))
        dtype = torch.promote_types(x.dtype, torch.float32)
        x, dt, b, c = (each.to(dtype) for each in (x, dt, b, c))
        decay = -self.log_decay.to(dtype).exp()
        again = partial(checkpoint, use_reentrant=False)
        with torch.autocast(x.device.type, enabled=False):
            # Not slices, whose gradients would each be a table as wide as x.
            blocks = (
                torch.split(x, _BLOCK, 1),
                torch.split(dt, _BLOCK, 1),
                torch.split(decay, _BLOCK),
            )
            # An empty bag has no row: row 0, where it begins anew anyway, stands for it.
            starts = torch.where(ptr.diff() > 0, ptr[:-1], 0) if len(x) else ptr[:0]
            parts = [again(_states_seen, *of, b, c, starts) for of in zip(*blocks, strict=True)]
            return torch.cat(parts, dim=1) + self.skip.to(dtype) * x

    def _convolved(self, x: Tensor, place: Tensor) -> Tensor:
        """Of the instance and those before it in its bag."""
        taps = self.conv.weight[:, 0]  # (E, k), the last of which is of the instance itself
        out = x * taps[:, -1] + torch.as_tensor(self.conv.bias)
        for back in range(1, taps.shape[1]):
            earlier = x.roll(back, 0) * (place >= back)[:, None]
            out = out + earlier * taps[:, -1 - back]
        return out


def _states_seen(
    x: Tensor, dt: Tensor, decay: Tensor, b: Tensor, c: Tensor, starts: Tensor
) -> Tensor:
    """`C_t . h_t` `(N, e)` of a few channels."""
    kept = (dt[:, :, None] * decay).exp()
    added = (dt * x)[:, :, None] * b[:, None]
    states = linear_scan(kept.flatten(1), added.flatten(1), starts).reshape(kept.shape)
    return torch.einsum("nes,ns->ne", states, c)
