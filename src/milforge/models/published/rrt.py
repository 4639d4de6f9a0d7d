"""Re-embedding of the instances by attention within regions and across them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import attention_pool
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_choice, check_counts
from milforge.models.output import BagOutput
from milforge.models.published.instance_order import Order, instance_order, side_of
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads
from milforge.nn.blocks.self_attention import head_width


class RRT(FeatureNetwork):
    r"""Attention within the regions of a square, and across regions by a few rows of each.

    The instances fill a square line by line, whose side is a multiple of `regions`; what is left of
    it is empty, and is seen by none. First, within each region, `x + MHA(LN(x))`, whose logits have
    a depthwise convolution along the queries added to them. Then, of `y = LN(x)` in each region,
    `R = softmax_p(y \Phi)^T y` makes k representative rows; those of all regions of the same number
    attend to each other; and `x + softmax_k(y \Phi) R'` hands them back. Attention pools the
    instances (Tang et al. 2024, arXiv:2402.17228).

    The order of the instances is their place, so it matters, unless they are put in order by
    their coords.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        regions: along each side of the square.
        heads: number of heads.
        kernel: taps, odd, of the convolution.
        representatives: k.
        att_dim: width of the projection of the attention that pools.
        gated: whether that has a gate.
        order: `file` or `coords`, see `instance_order`.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: where there are more heads than the width, for an even kernel, numbers below 1,
            or another order.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        regions: int = 8,
        heads: int = 8,
        kernel: int = 15,
        representatives: int = 3,
        att_dim: int = 128,
        gated: bool = False,
        order: Order = "file",
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
        width = self.width
        check_counts(regions=regions, representatives=representatives, kernel=kernel)
        check_choice("order", order, get_args(Order))
        if kernel % 2 == 0:
            raise ValueError(f"expected an odd model.kernel, got {kernel}")
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.within = _Attention(width, heads)
        self.conv = nn.Conv2d(
            heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False
        )
        self.across = _Attention(width, heads)
        self.phi = nn.Parameter(torch.empty(width, representatives))
        nn.init.xavier_uniform_(self.phi)
        self.attention = AttentionHeads(width, 1, att_dim, gated=gated)
        self.head = nn.Linear(width, num_outputs)
        self.regions = regions
        self.order: Order = order
        self.permutation = "order" if order == "file" else "invariant"

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and a score per instance.

        Raises:
            ValueError: where instances are to be ordered by coords and there are none.
        """
        rows = instance_order(batch, self.order)
        # A bag without instances has no regions.
        bounds = [(i, j) for i, j in pairwise(batch.ptr.tolist()) if i < j]
        x = x[rows]
        qkv, parts = self.within.qkv(self.norm1(x)), []
        for i, j in bounds:
            slot, size = self._slots(j - i, x.device)
            parts.append(self._attend(qkv[i:j], slot, size))
        x = x + self.within.out(torch.cat(parts) if parts else self._none(qkv))
        y = self.norm2(x)
        few = y @ self.phi.to(y.dtype)
        given = [self._exchange(y[i:j], few[i:j]) for i, j in bounds]
        x = self.norm(x + (torch.cat(given) if given else self._none_across(few, y)))
        scores = self.attention(x)[:, 0]
        logits = self.head(attention_pool(x, scores, batch.ptr))
        return BagOutput(logits, torch.empty_like(scores).index_copy(0, rows, scores))

    def _slots(self, size: int, device: torch.device) -> tuple[Tensor, int]:
        """The place of each of n instances, region after region, and the places of a region."""
        side = side_of(size, self.regions)
        width = side // self.regions
        place = torch.arange(size, device=device)
        line, column = place // side, place % side
        region = line // width * self.regions + column // width
        return region * width**2 + line % width * width + column % width, width**2

    def _attend(self, qkv: Tensor, slot: Tensor, size: int) -> Tensor:
        """`(n, 3 H d)` to `(n, H d)`: attention within regions of a bag, before its last layer."""
        rows = qkv.new_zeros(self.regions**2 * size, qkv.shape[1]).index_copy(0, slot, qkv)
        there = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        there = there.index_fill(0, slot, True).reshape(-1, 1, size)  # (R, 1, P)
        q, k, v = self.within.heads_of(rows.reshape(-1, size, rows.shape[1]))  # (R, H, P, d)
        logits = q @ k.transpose(-1, -2) / q.shape[3] ** 0.5
        pairs = there[..., None] & there[:, :, None]
        logits = logits.masked_fill(~pairs, 0.0)  # an empty place is no neighbour
        logits = logits + self.conv(logits)
        # Finite, because a region may be empty.
        lowest = torch.finfo(logits.dtype).min
        weights = logits.masked_fill(~there[:, :, None], lowest).softmax(-1)
        out: Tensor = (weights @ v.to(weights.dtype)).transpose(1, 2).flatten(0, 1).flatten(1)
        return out[slot]

    def _exchange(self, y: Tensor, few: Tensor) -> Tensor:
        """`(n, D)`, what the regions of a bag hand on; `few` is `(n, k)`."""
        slot, size = self._slots(len(y), y.device)
        region = slot // size
        present, region = torch.unique(region, return_inverse=True)
        top = few.detach().new_full((len(present), few.shape[1]), -torch.inf)
        wide = region[:, None].expand_as(few)
        top = top.scatter_reduce(0, wide, few.detach(), "amax")
        exps = (few - top[region]).exp()
        total = torch.zeros_like(top).index_add(0, region, exps)
        weights = exps / total[region]
        shares = (weights[:, :, None] * y[:, None].to(weights.dtype)).flatten(1)  # (n, k D)
        means = shares.new_zeros(len(present), shares.shape[1]).index_add(0, region, shares)
        means = means.reshape(len(present), -1, y.shape[1]).transpose(0, 1)  # (k, R, D)
        q, k, v = self.across.heads_of(self.across.qkv(means))
        attended = nn.functional.scaled_dot_product_attention(q, k, v)  # (k, H, R, d)
        handed = self.across.out(attended.transpose(1, 2).flatten(2))  # (k, R, D)
        return torch.einsum("nk,knd->nd", few.softmax(1).to(handed.dtype), handed[:, region])

    def _none(self, qkv: Tensor) -> Tensor:
        """Of no bags; every parameter still has a gradient."""
        return qkv[:, : self.within.out.in_features] + 0 * (qkv.sum() + self.conv.weight.sum())

    def _none_across(self, few: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.across.out(self.across.qkv(y)[:, : self.across.out.in_features])
        return out + 0 * few.sum()


class _Attention(nn.Module):
    """The layers before and behind multi-head attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        inner = heads * head_width(dim, heads)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * inner)
        self.out = nn.Linear(inner, dim)

    def heads_of(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(S, P, 3 H d)` to queries, keys and values `(S, H, P, d)`."""
        rows = qkv.reshape(*qkv.shape[:2], 3, self.heads, qkv.shape[2] // 3 // self.heads)
        q, k, v = rows.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v
