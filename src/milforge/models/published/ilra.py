"""Iterative low-rank attention."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milforge.data import BagBatch
from milforge.functional import bag_attention, segment_index
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_counts
from milforge.models.output import BagOutput
from milforge.models.streams import Encoder
from milforge.nn.blocks.self_attention import head_width


class ILRA(FeatureNetwork):
    r"""Instances exchange what they know by way of a few latent rows, whose number is the rank.

    Each block is, of each bag, `H = A(L, X)` of learnt latents L `(r, d)`, and `X' = A(X, H)`; a
    learnt row pools the last: `z = A(S, X)`. With multi-head attention,

    $$ A(Q, K) = \mathrm{silu}(W_g Q) \odot (O + \mathrm{relu}(W O)) \qquad
       O = W_q Q + \mathrm{MHA}(Q, K) $$

    without the gate in the pooling, and with layer norms of both sums (Xiang and Zhang 2023, ICLR,
    "Exploring low-rank property in multiple instance learning").

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        blocks: number of blocks.
        rank: r.
        heads: number of heads.
        norm: whether there are layer norms.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: where there are more heads than the width, or a number is below 1.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        blocks: int = 2,
        rank: int = 64,
        heads: int = 8,
        norm: bool = True,
        aem: float = 0.0,
        covariates: bool = False,
        num_covariates: int = 0,
    ) -> None:
        super().__init__(
            instance_shape,
            num_outputs,
            encoder=encoder,
            fusion=fusion,
            aem=aem,
            covariates=covariates,
            num_covariates=num_covariates,
        )
        check_counts(blocks=blocks, rank=rank)
        self.latents = nn.Parameter(torch.empty(blocks, rank, self.width))
        self.seed = nn.Parameter(torch.empty(1, self.width))
        nn.init.xavier_uniform_(self.latents)
        nn.init.xavier_uniform_(self.seed)
        width = self.width
        self.gather = nn.ModuleList(_Attention(width, heads, norm) for _ in range(blocks))
        self.spread = nn.ModuleList(_Attention(width, heads, norm) for _ in range(blocks))
        self.pooling = _Attention(width, heads, norm, gated=False)
        self.head = nn.Linear(self.width, num_outputs)

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and the scores `(N, H)` of the pooling."""
        ptr, bags = batch.ptr, len(batch)
        rank = self.latents.shape[1]
        few = torch.arange(bags + 1, device=ptr.device) * rank
        for latents, gather, spread in zip(self.latents, self.gather, self.spread, strict=True):
            rows, _ = gather(latents.to(x.dtype).repeat(bags, 1), x, few, ptr)
            x, _ = spread(x, rows, ptr, few)
        one = torch.arange(bags + 1, device=ptr.device)
        z, (q, k) = self.pooling(self.seed.to(x.dtype).repeat(bags, 1), x, one, ptr)
        scores = (q[segment_index(ptr, len(x))] * k).sum(2) / k.shape[2] ** 0.5
        return BagOutput(self.head(z), scores)


class _Attention(nn.Module):
    """`A(Q, K)`, and the queries and keys of its heads."""

    def __init__(self, dim: int, heads: int, norm: bool, gated: bool = True) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width(dim, heads)
        self.project = nn.Linear(dim, dim)  # W_q
        self.q, self.k, self.v = (nn.Linear(dim, inner) for _ in range(3))
        self.out = nn.Linear(inner, dim)
        self.norm1 = nn.LayerNorm(dim) if norm else nn.Identity()
        self.hidden = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim) if norm else nn.Identity()
        self.gate = nn.Linear(dim, dim) if gated else None

    def forward(
        self, queries: Tensor, keys: Tensor, q_ptr: Tensor, k_ptr: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = (
            layer(rows).reshape(len(rows), self.heads, layer.out_features // self.heads)
            for layer, rows in ((self.q, queries), (self.k, keys), (self.v, keys))
        )
        attended = bag_attention(q, k, v, q_ptr, k_ptr).flatten(1)
        out = self.norm1(self.project(queries) + self.out(attended))
        out = self.norm2(out + F.relu(self.hidden(out)))
        if self.gate is not None:
            out = out * F.silu(self.gate(queries))
        return out, (q, k)
