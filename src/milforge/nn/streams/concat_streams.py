"""Streams side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConcatStreams(nn.Module):
    """Concatenates the streams: what `StreamFusion` is compared with. It has no weights.

    Args:
        in_dims: widths `D_s` of the streams, in their order.

    Attributes:
        dim: their sum.

    Raises:
        ValueError: where there is no stream, or a width is below 1.

    Example:
        >>> ConcatStreams((2, 1))([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])])
        tensor([[1., 2., 3.]])
    """

    def __init__(self, in_dims: Sequence[int]) -> None:
        super().__init__()
        if not in_dims or min(in_dims) < 1:
            raise ValueError(f"expected in_dims, each of at least 1, got {list(in_dims)}")
        self.in_dims = tuple(in_dims)
        self.dim = sum(in_dims)

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """S tensors `(..., D_s)` of the same leading dimensions to `(..., dim)`.

        Raises:
            ValueError: where the number of streams, a width or the leading dimensions do not fit.
        """
        expected = [(*streams[0].shape[:-1], width) for width in self.in_dims] if streams else None
        found = [tuple(x.shape) for x in streams]
        if found != expected:
            raise ValueError(
                f"expected streams of widths {list(self.in_dims)} (in_dims) that describe the same "
                f"items, got shapes {found}"
            )
        return torch.cat(list(streams), -1)

    def extra_repr(self) -> str:
        """Widths, for `print`."""
        return f"in_dims={self.in_dims}"
