"""Features brought to mean 0 and standard deviation 1."""

import torch
from torch import Tensor, nn

# A column that varies by less than this part of its mean, eight roundings of a float32, is
# constant: what is left of it is rounding, which the division would blow up to a feature.
_RELATIVE = 1e-6


class Standardise(nn.Module):
    r"""Subtracts the mean of each feature and divides by its standard deviation.

    $$ y_{ij} = (x_{ij} - \mu_j) / \sigma_j $$

    A constant feature, `std <= 1e-6 * |mean|`, gives zeros. Mean and standard deviation are
    buffers of the module, so a checkpoint carries them; make it with zeros and ones to load them.

    Args:
        mean: of the features, of the shape of one instance, `(D,)` for vectors.
        std: of the same shape; see `milforge.data.feature_moments`.

    Raises:
        ValueError: where they differ in shape, are not finite, or a deviation is negative.

    Example:
        >>> standardise = Standardise(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]))
        >>> standardise(torch.tensor([[5.0, 5.0], [-1.0, 5.0]], dtype=torch.float16))
        tensor([[ 2.,  0.],
                [-1.,  0.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.shape != std.shape:
            raise ValueError(
                f"expected mean and std of one shape, got {tuple(mean.shape)} and "
                f"{tuple(std.shape)}"
            )
        finite = bool(mean.isfinite().all() and std.isfinite().all())
        if not finite or bool((std < 0).any()):
            raise ValueError(
                "expected finite means and finite deviations of 0 or more, got others: look for "
                "NaN, infinity or very large values in the features"
            )
        # Judged before the conversion: float32 loses deviations of constant columns to 0 or not.
        constant = std <= _RELATIVE * mean.abs()
        self.register_buffer("mean", mean.to(torch.float32, copy=True))
        self.register_buffer("std", std.masked_fill(constant, torch.inf).to(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """The standardised features.

        Args:
            x: `(N, D)`, or `(N, ...)` with instances of the shape of `mean`; float16, bfloat16
                or float32.

        Returns:
            As `x`, float32.

        Raises:
            ValueError: for instances of another shape.
        """
        if x.shape[1:] != self.mean.shape:
            raise ValueError(
                f"expected instances of shape {tuple(self.mean.shape)}, whose statistics are "
                f"known, got {tuple(x.shape[1:])}: these are other features than in training"
            )
        return (x - self.mean) / self.std
