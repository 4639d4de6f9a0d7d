"""Self-attention by way of landmarks, each bag by itself."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NystromAttention(nn.Module):
    r"""Approximate self-attention at a cost that is linear in a bag.

    $$ \mathrm{softmax}(Q \tilde K^\top) \; \mathrm{softmax}(\tilde Q \tilde K^\top)^+ \;
       \mathrm{softmax}(\tilde Q K^\top) \, V + \mathrm{conv}(V) $$

    of scaled queries (Xiong et al. 2021, arXiv:2102.03902), where the landmarks `Q~, K~` are the
    means of m segments of a bag, which is filled up by rows of 0 before its first one, so that m
    divides it. The pseudo-inverse is that of a few iterations, which begin from the transposed
    matrix over the product of its largest row and column sum. That product is taken over the heads
    of a bag alone, as published code has it for one bag; over a batch, a bag's output would depend
    on its neighbours.

    Args:
        dim: width of the rows.
        heads: number of heads.
        head_dim: width of each.
        landmarks: m.
        iterations: of the pseudo-inverse.
        kernel: taps, odd, of the convolution along the rows, one filter per head; 0: none.
        dropout: probability of dropping a feature of the output.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        head_dim: int = 64,
        landmarks: int = 256,
        iterations: int = 6,
        kernel: int = 33,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.landmarks = landmarks
        self.iterations = iterations
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.conv = None
        if kernel:
            self.conv = nn.Conv1d(
                heads, heads, kernel, padding=kernel // 2, groups=heads, bias=False
            )

    def forward(self, x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of the rows of each bag to those of the same bag.

        Args:
            x: `(N, D)`, the rows.
            ptr: `(B + 1,)` int64, the boundaries of the bags.

        Returns:
            `(N, D)`, and `(N,)`: the weight of each row for the first one of its bag, the mean over
            the heads. The approximation may make it negative; it knows nothing of the convolution.
        """
        rows = self.qkv(x).reshape(len(x), 3, self.heads, self.out.in_features // self.heads)
        rows = torch.cat([rows[:, :1] * rows.shape[3] ** -0.5, rows[:, 1:]], dim=1)
        bags = [self._padded(rows[i:j]) for i, j in pairwise(ptr.tolist())]
        if not bags:
            kept = 0.0 if self.conv is None else 0 * self.conv.weight.sum()
            return self.out(x.new_zeros(0, self.out.in_features)) + 0 * rows.sum() + kept, x[:, 0]
        means = torch.stack([self._landmarks(bag) for bag in bags])  # (B, 2, H, m, d)
        inverse = pseudo_inverse(_softmax(means[:, 0], means[:, 1]), self.iterations)
        parts, firsts = [], []
        for bag, (q_few, k_few), few, (i, j) in zip(
            bags, means, inverse, pairwise(ptr.tolist()), strict=True
        ):
            q, k, v = bag
            to_few = _softmax(q[:, -(j - i) :], k_few)  # (H, n, m)
            from_few = _softmax(q_few, k)  # (H, m, L)
            out = to_few @ (few @ (from_few @ v).to(few.dtype)).to(v.dtype)
            parts.append((out + self._convolved(v)[:, -(j - i) :]).transpose(0, 1).flatten(1))
            first = to_few[:, :1] @ few.to(q.dtype) @ from_few
            firsts.append(first.mean(0)[0, -(j - i) :])
        return self.dropout(self.out(torch.cat(parts))), torch.cat(firsts)

    def _padded(self, rows: Tensor) -> Tensor:
        """`(n, 3, H, d)` to `(3, H, L, d)`, rows of 0 first."""
        fill = -len(rows) % self.landmarks
        return F.pad(rows.permute(1, 2, 0, 3), (0, 0, fill, 0))

    def _landmarks(self, bag: Tensor) -> Tensor:
        """Means `(2, H, m, d)` of segments of queries and keys."""
        _, heads, length, width = bag.shape
        return bag[:2].reshape(2, heads, self.landmarks, length // self.landmarks, width).mean(3)

    def _convolved(self, v: Tensor) -> Tensor:
        if self.conv is None:
            return torch.zeros_like(v)
        each = v.permute(2, 0, 1)  # (d, H, L): the filter of a head is that of all its features
        convolved: Tensor = self.conv(each)
        return convolved.permute(1, 2, 0)


def pseudo_inverse(matrices: Tensor, iterations: int = 6) -> Tensor:
    """Moore-Penrose inverses by an iteration of third order (Razavi et al. 2014).

    Args:
        matrices: `(B, H, m, m)`; half precision is made single.
        iterations: their number.

    Returns:
        `(B, H, m, m)`; the beginning is scaled over the heads of each of the B.
    """
    a = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    rows, columns = (a.abs().sum(axis).amax((1, 2)) for axis in (-1, -2))
    with torch.autocast(a.device.type, enabled=False):
        z = a.transpose(-1, -2) / (rows * columns)[:, None, None, None]
        one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        for _ in range(iterations):
            az = a @ z
            z = 0.25 * z @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
    return z


def _softmax(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)).softmax(-1)
