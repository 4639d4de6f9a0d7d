"""Transformer-based correlated MIL."""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milforge.data import BagBatch
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_choice, check_counts
from milforge.models.output import BagOutput
from milforge.models.published.instance_order import Order, instance_order, side_of
from milforge.models.streams import Encoder
from milforge.nn.blocks.nystrom_attention import NystromAttention
from milforge.nn.blocks.self_attention import ClassToken, head_width, without_tokens


class TransMIL(FeatureNetwork):
    """Two layers of landmark attention, and convolutions over the square that a bag fills.

    The instances fill a square line by line, and the first ones fill up what is left of it; a
    class token stands before them. Between two pre-norm layers of `NystromAttention` with residual
    lies PPEG, the sum of the square and of depthwise convolutions of 7, 5 and 3 (Shao et al. 2021,
    arXiv:2106.00908). The order of the instances is their place, so it matters, unless they are
    put in order by their coords.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        heads: number of heads.
        landmarks: of the attention; None: half the width of the instances, as published.
        order: `file` or `coords`, see `instance_order`.
        dropout: of the output of the attention.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: where there are more heads than the width, for no landmark, or another order.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        heads: int = 8,
        landmarks: int | None = None,
        order: Order = "file",
        dropout: float = 0.1,
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
        check_choice("order", order, get_args(Order))
        few = max(1, width // 2) if landmarks is None else landmarks
        check_counts(landmarks=few)
        self.token = ClassToken(width)
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.layer1, self.layer2 = (
            NystromAttention(width, heads, head_width(width, heads), few, dropout=dropout)
            for _ in range(2)
        )
        self.ppeg = PPEG(width)
        self.head = nn.Linear(width, num_outputs)
        self.order: Order = order
        self.permutation = "order" if order == "file" else "invariant"

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and scores from what the class token looks at in the second layer.

        The score of an instance is the logarithm of its weight, the mean over the heads. The
        approximation may make a weight negative, which counts as 0.

        Raises:
            ValueError: where instances are to be ordered by coords and there are none.
        """
        rows = instance_order(batch, self.order)
        sizes = batch.ptr.diff().tolist()
        squares = [side_of(size) ** 2 for size in sizes]
        filled = [
            rows[start : start + size].repeat(2)[:square]
            for start, size, square in zip(batch.ptr.tolist(), sizes, squares, strict=False)
        ]
        rows = torch.cat(filled) if filled else rows
        bounds = torch.tensor([0, *squares], device=x.device).cumsum(0)
        x, ptr = self.token(x[rows], bounds)
        x = x + self.layer1(self.norm1(x), ptr)[0]
        x = self.ppeg(x, ptr)
        out, first = self.layer2(self.norm2(x), ptr)
        x = x + out
        weights = without_tokens(first, ptr)
        total = weights.new_zeros(batch.num_instances).index_add(0, rows, weights)
        scores = total.clamp(min=torch.finfo(total.dtype).tiny).log()
        return BagOutput(self.head(self.norm(x[ptr[:-1]])), scores)


class PPEG(nn.Module):
    """The sum of a square of rows and of depthwise convolutions of 7, 5 and 3 over it.

    Args:
        dim: width of the rows.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolution7, self.convolution5, self.convolution3 = (
            nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim) for size in (7, 5, 3)
        )

    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """`(N + B, D)` to the same: a token before the square of each bag, which is left alone."""
        # Convolutions are linear: one of the sum of the kernels is a third of the work.
        large, middle, small = self.convolution7, self.convolution5, self.convolution3
        kernel = large.weight + F.pad(middle.weight, [1] * 4) + F.pad(small.weight, [2] * 4)
        bias = torch.stack([c.bias for c in (large, middle, small) if c.bias is not None]).sum(0)
        parts = []
        for i, j in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
            side = side_of(j - i - 1)
            if side == 0:  # a bag without instances
                parts.append(x[i:j])
                continue
            square = x[i + 1 : j].T.reshape(1, -1, side, side)
            around = F.conv2d(square, kernel, bias, padding=3, groups=x.shape[1])
            parts += [x[i : i + 1], x[i + 1 : j] + around[0].flatten(1).T]
        return torch.cat(parts) if parts else x + 0 * (kernel.sum() + bias.sum())
