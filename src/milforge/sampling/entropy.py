"""A regulariser that keeps attention from collapsing."""

import torch
from torch import Tensor, nn


class MultinomialEntropy(nn.Module):
    """Negative entropy of the attention maps, to be added to the loss.

    `strength * sum a log(a + eps) / B`: the larger the strength, the more evenly the attention is
    spread.

    Args:
        strength: factor of the term.
        eps: keeps the logarithm finite where the attention is 0.

    Raises:
        ValueError: where eps is not above 0.

    Example:
        >>> MultinomialEntropy()(torch.full((1, 2, 2), 0.25))
        tensor(-1.3863)
    """

    def __init__(self, strength: float = 1.0, eps: float = 1e-6) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"expected eps above 0, got {eps}")
        self.strength = strength
        self.eps = eps

    def forward(self, attention: Tensor) -> Tensor:
        """The term for these maps.

        Args:
            attention: `(B, ...)` float, the probabilities of each map.

        Returns:
            0-dim, of at least float32.
        """
        a = attention.to(torch.promote_types(attention.dtype, torch.float32))
        return self.strength * (a * (a + self.eps).log()).sum() / len(a)

    def extra_repr(self) -> str:
        """Strength and eps, for `print`."""
        return f"strength={self.strength}, eps={self.eps}"
