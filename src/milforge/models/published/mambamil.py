"""Selective scans over a bag, in its own order and in strides."""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milforge.data import BagBatch
from milforge.functional import attention_pool, segment_index
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_choice, check_counts
from milforge.models.output import BagOutput
from milforge.models.published.instance_order import Order, instance_order
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads
from milforge.nn.blocks.selective_scan import SelectiveScan


class MambaMIL(FeatureNetwork):
    """Layers that read a bag as a sequence twice: as it is, and in strides.

    Each is `x + W_out((scan(u) + scan'(u in strides)) * silu(v))` with `(u, v) = W_in LN(x)`; the
    second scan, with weights of its own, sees the instances 0, r, 2 r, ..., 1, r + 1, ... Attention
    pools the instances (Yang, Wang and Chen 2024, arXiv:2403.06800). The order of the instances
    matters, unless they are put in order by their coords.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        layers: number of layers.
        stride: r.
        expand: channels of the scans, in widths of the instances.
        state: size of the state of each channel.
        att_dim: width of the projection of the attention.
        order: `file` or `coords`, see `instance_order`.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: for numbers below 1, or another order.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        layers: int = 2,
        stride: int = 10,
        expand: int = 2,
        state: int = 16,
        att_dim: int = 128,
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
        check_counts(layers=layers, stride=stride, expand=expand, state=state)
        check_choice("order", order, get_args(Order))
        self.layers = nn.ModuleList(
            _Layer(self.width, expand * self.width, state) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(self.width)
        self.attention = AttentionHeads(self.width, 1, att_dim, gated=False)
        self.head = nn.Linear(self.width, num_outputs)
        self.stride = stride
        self.order: Order = order
        self.permutation = "order" if order == "file" else "invariant"

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and a score per instance.

        Raises:
            ValueError: where instances are to be ordered by coords and there are none.
        """
        rows = instance_order(batch, self.order)
        strides = self._strides(batch.ptr, len(x))
        x = x[rows]
        for layer in self.layers:
            x = layer(x, batch.ptr, strides)
        x = self.norm(x)
        scores = self.attention(x)[:, 0]
        logits = self.head(attention_pool(x, scores, batch.ptr))
        return BagOutput(logits, torch.empty_like(scores).index_copy(0, rows, scores))

    def _strides(self, ptr: Tensor, size: int) -> Tensor:
        """`(N,)` the rows of each bag in strides."""
        bag = segment_index(ptr, size)
        first = (torch.arange(size, device=ptr.device) - ptr[bag]) % self.stride
        rows = first.argsort(stable=True)
        return rows[bag[rows].argsort(stable=True)]


class _Layer(nn.Module):
    def __init__(self, dim: int, channels: int, state: int) -> None:
        super().__init__()
        rank = -(-dim // 16)
        self.norm = nn.LayerNorm(dim)
        self.enter = nn.Linear(dim, 2 * channels, bias=False)
        self.scan, self.strided = (SelectiveScan(channels, state, rank=rank) for _ in range(2))
        self.leave = nn.Linear(channels, dim, bias=False)

    def forward(self, x: Tensor, ptr: Tensor, strides: Tensor) -> Tensor:
        """`(N, D)` to the same."""
        u, v = self.enter(self.norm(x)).chunk(2, dim=1)
        seen = self.scan(u, ptr)
        strided = self.strided(u[strides], ptr)
        both = seen + torch.empty_like(strided).index_copy(0, strides, strided)
        out: Tensor = x + self.leave((both * F.silu(v)).to(x.dtype))
        return out
