"""Pooling without parameters."""

from torch import Tensor, nn

from milforge.functional import segment_index, segment_max, segment_mean
from milforge.nn.packing import pack


class MeanPool(nn.Module):
    """Mean of the instances of each bag; a bag without instances gives 0.

    Example:
        >>> import torch
        >>> MeanPool()(torch.tensor([[1.0], [3.0], [5.0]]), ptr=torch.tensor([0, 2, 3]))
        tensor([[2.],
                [5.]])
    """

    def forward(
        self, X: Tensor, mask: Tensor | None = None, *, ptr: Tensor | None = None
    ) -> Tensor:
        """Pools padded `(B, M, D)` (with `mask`) or packed `(N, D)` (with `ptr`) to `(B, D)`.

        Raises:
            ValueError: where the shapes, dtypes or devices do not fit each other.
        """
        x, bounds, _ = pack(X, mask, ptr)
        return segment_mean(x, bounds).to(x.dtype)

    def weights(self, x: Tensor, *, ptr: Tensor) -> Tensor:
        """`(N, 1)`: what each instance is multiplied by before bags are summed."""
        sizes = ptr.diff()[segment_index(ptr, len(x))]
        return sizes.to(x.dtype).reciprocal()[:, None]


class MaxPool(nn.Module):
    """Largest value of each feature in each bag; a bag without instances gives 0.

    Example:
        >>> import torch
        >>> MaxPool()(torch.tensor([[1.0], [3.0], [5.0]]), ptr=torch.tensor([0, 2, 3]))
        tensor([[3.],
                [5.]])
    """

    def forward(
        self, X: Tensor, mask: Tensor | None = None, *, ptr: Tensor | None = None
    ) -> Tensor:
        """Pools padded `(B, M, D)` (with `mask`) or packed `(N, D)` (with `ptr`) to `(B, D)`.

        Raises:
            ValueError: where the shapes, dtypes or devices do not fit each other.
        """
        x, bounds, _ = pack(X, mask, ptr)
        return segment_max(x, bounds)
