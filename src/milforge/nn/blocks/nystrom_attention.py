"""Self-attention by way of landmarks, each bag by itself."""

from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STEP = 32  # landmarks by which matrices may differ that are inverted together


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
        bags = [rows[i:j].permute(1, 2, 0, 3) for i, j in pairwise(ptr.tolist()) if i < j]
        if not bags:
            kept = 0.0 if self.conv is None else 0 * self.conv.weight.sum()
            return self.out(x.new_zeros(0, self.out.in_features)) + 0 * rows.sum() + kept, x[:, 0]
        landmarks = [self._landmarks(bag) for bag in bags]
        inverses = self._inverses(landmarks)
        parts, firsts = [], []
        for (q, k, v), few, inverse in zip(bags, landmarks, inverses, strict=True):
            to_few = few.shares(q)  # (H, n, m)
            from_few = few.shares_of(k, -k.shape[1] % self.landmarks)  # (H, m, n)
            out = to_few @ (inverse @ (from_few @ v).to(inverse.dtype)).to(v.dtype)
            parts.append((out + self._convolved(v)).transpose(0, 1).flatten(1))
            first = to_few[:, :1] @ inverse.to(q.dtype) @ from_few
            firsts.append(first.mean(0)[0])
        return self.dropout(self.out(torch.cat(parts))), torch.cat(firsts)

    def _landmarks(self, bag: Tensor) -> "_Landmarks":
        """Of a bag `(3, H, n, d)`; rows of 0 before its first one fill it up."""
        _, heads, length, width = bag.shape
        fill = -length % self.landmarks
        each = (length + fill) // self.landmarks
        means = F.pad(bag[:2], (0, 0, fill, 0)).reshape(2, heads, -1, each, width).mean(3)
        alike = max(1, fill // each)
        q, k = means[:, :, alike - 1 :].unbind(0)
        roots = torch.ones(q.shape[1], dtype=bag.dtype, device=bag.device)
        roots[0] = alike**0.5
        return _Landmarks(q, k, alike, roots)

    def _inverses(self, landmarks: Sequence["_Landmarks"]) -> list[Tensor]:
        """`(H, m, m)` of each bag, what lies between the shares of its rows and of its landmarks.

        They are computed of those bags together that have about as many landmarks. A matrix with
        less is filled up by 0, which the iteration leaves 0.
        """
        together: dict[int, list[int]] = {}
        for bag, few in enumerate(landmarks):
            together.setdefault(-(-few.q.shape[1] // _STEP), []).append(bag)
        found: dict[int, Tensor] = {}
        for bags in together.values():
            matrices = [landmarks[bag].matrix() for bag in bags]
            scales = [
                landmarks[bag].largest_sum(each) for bag, each in zip(bags, matrices, strict=True)
            ]
            size = max(each.shape[1] for each in matrices)
            filled = [F.pad(each, (0, size - each.shape[1]) * 2) for each in matrices]
            inverse = pseudo_inverse(torch.stack(filled), torch.stack(scales), self.iterations)
            for bag, each, matrix in zip(bags, inverse, matrices, strict=True):
                found[bag] = landmarks[bag].between(each[:, : matrix.shape[1], : matrix.shape[1]])
        return [found[bag] for bag in range(len(landmarks))]

    def _convolved(self, v: Tensor) -> Tensor:
        if self.conv is None:
            return torch.zeros_like(v)
        each = v.permute(2, 0, 1)  # (d, H, n): the filter of a head is that of all its features
        convolved: Tensor = self.conv(each)
        return convolved.permute(1, 2, 0)


class _Landmarks(NamedTuple):
    r"""The landmarks of a bag, of which one stands for all that are 0 because the bag is filled up.

    With `w` the number of landmarks that each stands for, the matrix of the full landmarks is kept
    as `\sqrt{w_i} a_{ij} \sqrt{w_j}`: its products, and so its pseudo-inverse, are then those of
    the full one, and a bag of few rows costs little.

    Attributes:
        q: `(H, m, d)`.
        k: `(H, m, d)`.
        alike: w of the first landmark; that of all others is 1.
        roots: `(m,)`, the square roots of `w`.
    """

    q: Tensor
    k: Tensor
    alike: int
    roots: Tensor

    def shares(self, q: Tensor) -> Tensor:
        """`(H, n, m)`, what each of the queries `(H, n, d)` sees of all that a landmark is."""
        scores = q @ self.k.transpose(-1, -2)
        if self.alike > 1:  # in a large bag that is one table less
            scores = scores + 2 * self.roots.log()
        return scores.softmax(-1)

    def shares_of(self, k: Tensor, fill: int) -> Tensor:
        """`(H, m, n)`, what each landmark sees of the keys `(H, n, d)` beside `fill` of 0."""
        scores = self.q @ k.transpose(-1, -2)
        if fill:
            scores = F.pad(scores, (1, 0), value=log(fill))
        return scores.softmax(-1)[..., -k.shape[1] :]

    def matrix(self) -> Tensor:
        """`(H, m, m)`, what the landmarks see of each other; half precision is made single."""
        a = self.roots[:, None] * self.shares(self.q) / self.roots
        return a.to(torch.promote_types(a.dtype, torch.float32))

    def between(self, inverse: Tensor) -> Tensor:
        """`(H, m, m)`, by which shares and shares of landmarks are multiplied."""
        roots = self.roots.to(inverse.dtype)
        return inverse * (roots / roots[:, None])

    def largest_sum(self, matrix: Tensor) -> Tensor:
        """Scalar: the largest sum of a column of the full matrices; those of rows are 1."""
        roots = self.roots.to(matrix.dtype)
        return (matrix * (roots[:, None] / roots)).sum(1).amax()


def pseudo_inverse(matrices: Tensor, scale: Tensor, iterations: int = 6) -> Tensor:
    """Moore-Penrose inverses by an iteration of third order (Razavi et al. 2014).

    Args:
        matrices: `(B, H, m, m)`.
        scale: `(B,)`; the iteration begins from the transposed matrices over it. The product of the
            largest sums of absolute values of a row and of a column is a bound that converges.
        iterations: their number.

    Returns:
        `(B, H, m, m)`.
    """
    a = matrices
    with torch.autocast(a.device.type, enabled=False):
        z = a.transpose(-1, -2) / scale[:, None, None, None]
        one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        for _ in range(iterations):
            az = a @ z
            z = 0.25 * z @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
    return z
