"""Attention between the rows of each bag of packed tables."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


def bag_attention(
    q: Tensor, k: Tensor, v: Tensor, q_ptr: Tensor, k_ptr: Tensor, dropout: float = 0.0
) -> Tensor:
    r"""Exact scaled attention of the queries of each bag to the keys of the same bag.

    $$ o_i = \sum_j \mathrm{softmax}_j(q_i^\top k_j / \sqrt{d}) \, v_j $$

    It runs bag by bag, so that its memory is that of the rows and not of their products.

    Args:
        q: `(M, H, d)`, the queries of H heads.
        k: `(N, H, d)`, the keys.
        v: `(N, H, d)`, the values.
        q_ptr: `(B + 1,)` int64, the boundaries of the bags in `q`.
        k_ptr: `(B + 1,)` int64, those in `k` and `v`.
        dropout: probability of dropping an attention weight.

    Returns:
        `(M, H, d)`; 0 where a bag has no keys.

    Example:
        >>> ptr = torch.tensor([0, 1, 3])
        >>> q, v = torch.zeros(3, 1, 1), torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1)
        >>> bag_attention(q, q, v, ptr, ptr).flatten()
        tensor([1., 3., 3.])
    """
    bounds = zip(pairwise(q_ptr.tolist()), pairwise(k_ptr.tolist()), strict=True)
    parts = []
    for (i, j), (m, n) in bounds:
        if m == n:
            parts.append(torch.zeros_like(q[i:j]))
            continue
        queries, keys, values = (each.transpose(0, 1)[None] for each in (q[i:j], k[m:n], v[m:n]))
        out = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        parts.append(out[0].transpose(0, 1))
    # Where there is no bag, the parameters behind all three still have a gradient.
    return torch.cat(parts) if parts else q + 0 * (k.sum() + v.sum())
