"""Layers of exact self-attention within each bag, and the class token before a bag."""

import torch
from torch import Tensor, nn

from milforge.functional import bag_attention, segment_index


class ClassToken(nn.Module):
    """Puts a learnt row before the instances of each bag.

    Args:
        dim: width of the rows.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.token, std=0.02)

    def forward(self, x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, D)` to `(N + B, D)`, and the boundaries of the bags in it; a bag begins with it."""
        bag = segment_index(ptr, len(x))
        place = torch.arange(len(x), device=x.device) + bag + 1
        out = self.token.to(x.dtype).repeat(len(x) + len(ptr) - 1, 1)
        out = out.index_copy(0, place, x)
        return out, ptr + torch.arange(len(ptr), device=ptr.device)


def without_tokens(x: Tensor, ptr: Tensor) -> Tensor:
    """The rows `(N, ...)` of `(N + B, ...)` but the first of each bag; ptr is that with tokens."""
    place = torch.arange(len(ptr), device=ptr.device)
    size = len(x) - len(ptr) + 1
    # Not by a mask, of which a device would be asked how many rows it takes.
    rows = torch.arange(size, device=x.device) + segment_index(ptr - place, size) + 1
    return x.index_select(0, rows)


class SelfAttentionLayer(nn.Module):
    r"""A pre-norm transformer layer, each bag by itself.

    $$ x' = x + \mathrm{MHA}(\mathrm{LN}(x)) \qquad x'' = x' + \mathrm{MLP}(\mathrm{LN}(x')) $$

    Args:
        dim: width of the rows.
        heads: number of heads, each `dim // heads` wide.
        mlp_dim: width of the hidden layer of the MLP, with GELU.
        dropout: probability of dropping an attention weight, or a feature of either branch.

    Raises:
        ValueError: where there are more heads than the rows are wide.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = heads * head_width(dim, heads)
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * inner)
        self.out = nn.Linear(inner, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp_dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """`(M, D)` to the same, and the scores `(M, H)` of the first row of each bag for its rows.

        The scores are those of before the softmax.
        """
        width = self.out.in_features // self.heads
        rows = self.qkv(self.norm1(x)).reshape(len(x), 3, self.heads, width)
        q, k, v = rows.unbind(1)
        drop = self.dropout.p if self.training else 0.0
        attended = bag_attention(q, k, v, ptr, ptr, drop).flatten(1)
        first = q[ptr[segment_index(ptr, len(x))]]  # a bag may have no row
        scores = (first * k).sum(2) / k.shape[2] ** 0.5
        x = x + self.dropout(self.out(attended))
        return x + self.dropout(self.mlp(self.norm2(x))), scores


def head_width(dim: int, heads: int) -> int:
    """The width of each of some heads of rows, all of the same.

    Where they do not divide the width of the rows, they see a little less of it together: 8 heads
    of rows of 500 are 62 wide.

    Raises:
        ValueError: where there are more heads than the rows are wide, or none.
    """
    if not 1 <= heads <= dim:
        raise ValueError(
            f"expected model.heads of 1 to {dim}, the width of the instances, got {heads}"
        )
    return dim // heads
