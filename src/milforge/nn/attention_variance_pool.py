"""Attention pooling into a mean and a variance."""

import torch
from torch import Tensor, nn

from milforge.functional import segment_index, segment_softmax, segment_weighted_sum
from milforge.nn.attention_pool import AttentionPool
from milforge.nn.packing import pack


class AttentionVariancePool(nn.Module):
    r"""The mean and the variance of the instances under the attention, side by side.

    $$ \mu = \sum_n s_n x_n \qquad \sigma^2 = \sum_n s_n (x_n - \mu)^2 $$

    Schirris et al. 2022 (DeepSMILE, arXiv:2107.09405). The variance of a bag of one instance is 0.

    Args:
        in_dim: width D of the instances.
        att_dim: width of the projection.
        act: tanh, relu or gelu.
        gated: whether there is a gate, as in `AttentionPool`.

    Attributes:
        out_dim: 2 D.

    Raises:
        ValueError: for no width, or another activation.

    Example:
        >>> pool = AttentionVariancePool(1)
        >>> pool(torch.tensor([[3.0], [5.0], [5.0]]), ptr=torch.tensor([0, 1, 3]))
        tensor([[3., 0.],
                [5., 0.]], grad_fn=<CatBackward0>)
    """

    def __init__(
        self, in_dim: int, att_dim: int = 128, act: str = "tanh", gated: bool = False
    ) -> None:
        super().__init__()
        self.attention = AttentionPool(in_dim, att_dim, act, gated)
        self.out_dim = 2 * in_dim

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
            `z` `(B, 2 D)`; a bag without instances gives 0. With `return_att` also the scores
            before the softmax: `(B, M)`, -inf where masked, or packed `(N,)`.

        Raises:
            ValueError: where the shapes, dtypes or devices do not fit each other.
        """
        x, bounds, _ = packed = pack(X, mask, ptr)
        mean, f = self.attention(x, return_att=True, ptr=bounds)
        # The mean of the squares less the square of the mean would lose digits.
        centred = x - mean[segment_index(bounds, len(x))]
        variance = segment_weighted_sum(centred.square(), segment_softmax(f, bounds), bounds)
        z = torch.cat([mean, variance.to(mean.dtype)], dim=1)
        return (z, packed.restore(f)) if return_att else z
