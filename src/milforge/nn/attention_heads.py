"""Several attention scores per instance: one per head, class or branch."""

import torch
from torch import Tensor, nn

from milforge.functional import segment_softmax
from milforge.functional.attention import (
    ACTIVATIONS,
    attention_pool,
    check_projection,
    scores_of_heads,
)
from milforge.nn.packing import check_instances, pack


class AttentionHeads(nn.Module):
    r"""Scores of K attentions, `(N, D)` to `(N, K)`.

    $$ f_{nk} = w_k^\top \big( a(W_1 x_n + b_1) \odot \sigma(W_2 x_n + b_2) \big) $$

    without the factor of the gate where `gated` is false.

    Args:
        in_dim: width D of the instances.
        heads: K.
        att_dim: width of the projection.
        act: `a`: tanh, relu or gelu.
        gated: whether there is a gate.
        shared: whether the heads share the projections and differ in `w_k` alone; otherwise each
            has its own.

    Raises:
        ValueError: for no head, no width, or another activation.
    """

    def __init__(
        self,
        in_dim: int,
        heads: int,
        att_dim: int = 128,
        act: str = "tanh",
        gated: bool = True,
        *,
        shared: bool = True,
    ) -> None:
        super().__init__()
        check_projection(act, in_dim=in_dim, heads=heads, att_dim=att_dim)
        self.heads = heads
        self.act = act
        self.shared = shared
        width = att_dim if shared else heads * att_dim
        self.fc1 = nn.Linear(in_dim, width)
        self.fc_gated = nn.Linear(in_dim, width) if gated else None
        self.fc2 = nn.Linear(att_dim, heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, D)` to scores `(N, K)`."""
        gate = self.fc_gated
        if self.shared:
            own_gate = (None, None) if gate is None else (gate.weight, gate.bias)
            return scores_of_heads(
                x, self.fc1.weight, self.fc1.bias, self.fc2.weight, *own_gate, self.act
            )
        hidden = ACTIVATIONS[self.act](self.fc1(x))
        if gate is not None:
            hidden = hidden * gate(x).sigmoid()
        own = hidden.reshape(len(x), *self.fc2.weight.shape)  # (N, K, A)
        return torch.einsum("nka,ka->nk", own, self.fc2.weight.to(own.dtype))


class MultiHeadAttentionPool(nn.Module):
    """K attentions, each with its own projection; their pooled vectors stand side by side.

    Args:
        in_dim: width D of the instances.
        heads: K.
        att_dim: width of the projection of each head.
        act: tanh, relu or gelu.
        gated: whether there is a gate, as in `AttentionPool`.

    Attributes:
        out_dim: K D.

    Raises:
        ValueError: for no head, no width, or another activation.

    Example:
        >>> pool = MultiHeadAttentionPool(5, heads=3)
        >>> pool(torch.zeros(4, 5), ptr=torch.tensor([0, 1, 4])).shape
        torch.Size([2, 15])
    """

    def __init__(
        self,
        in_dim: int,
        heads: int = 4,
        att_dim: int = 128,
        act: str = "tanh",
        gated: bool = True,
    ) -> None:
        super().__init__()
        self.attention = AttentionHeads(in_dim, heads, att_dim, act, gated, shared=False)
        self.out_dim = heads * in_dim

    def forward(
        self,
        X: Tensor,
        mask: Tensor | None = None,
        return_att: bool = False,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pools each bag into one vector.

        Args:
            X: `(B, M, D)` padded bags, or packed `(N, D)` with `ptr`.
            mask: `(B, M)` bool, True where there is an instance; padded bags only.
            return_att: whether to return the attention scores too.
            ptr: `(B + 1,)` int64, the boundaries of packed bags.

        Returns:
            `z` `(B, K D)`; a bag without instances gives 0. With `return_att` also the scores
            before the softmax: `(B, M, K)`, -inf where masked, or packed `(N, K)`.

        Raises:
            ValueError: where the shapes, dtypes or devices do not fit each other.
        """
        x, bounds, _ = packed = pack(X, mask, ptr)
        first = self.attention.fc1.weight
        check_instances(x, first, first.shape[1])
        f = self.attention(x)
        z = attention_pool(x, f, bounds).flatten(1)
        if not torch.is_autocast_enabled(x.device.type):
            z = z.to(x.dtype)
        return (z, packed.restore(f)) if return_att else z

    def weights(self, x: Tensor, *, ptr: Tensor) -> Tensor:
        """`(N, K)`: what each instance is multiplied by in the K parts of a bag's vector."""
        return segment_softmax(self.attention(x), ptr)
