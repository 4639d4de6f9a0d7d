"""Features brought to mean 0 and standard deviation 1."""

import torch
from torch import Tensor, nn

# A column that varies by less than this part of its mean, eight roundings of a float32, is
# constant: what is left of it is rounding, which the division would blow up to a feature.
_CONSTANT = 1e-6
# The smallest deviation that is divided by, as a part of the mean. Features are mostly stored as
# float16, whose neighbouring numbers differ by 5e-4 to 1e-3 of their size: what varies by a tenth
# of that was hardly seen to vary, and bags that are new vary by thousands of such deviations.
_SMALLEST = 1e-4


class Standardise(nn.Module):
    r"""Subtracts the mean of each feature, divides by its standard deviation, and clips.

    $$ y_{ij} = \mathrm{clip}\left(\frac{x_{ij} - \mu_j}{\max(\sigma_j, 10^{-4} |\mu_j|)},
       -c, c\right) $$

    A constant feature, `std <= 1e-6 * |mean|`, gives zeros. The floor of the deviation and the
    clipping keep a feature that hardly varied in training from being blown up in bags that are
    new. Mean, standard deviation and clip are buffers of the module, so a checkpoint carries them;
    make it with zeros and ones to load them.

    Args:
        mean: of the features, of the shape of one instance, `(D,)` for vectors.
        std: of the same shape; see `milforge.data.feature_moments`.
        clip: largest absolute value that it gives, in deviations; None: any.

    Raises:
        ValueError: where mean and std differ in shape or are not finite, a deviation is negative,
            or clip is not above 0.

    Example:
        >>> standardise = Standardise(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]))
        >>> standardise(torch.tensor([[5.0, 5.0], [-1.0, 5.0]], dtype=torch.float16))
        tensor([[ 2.,  0.],
                [-1.,  0.]])
    """

    mean: Tensor
    std: Tensor
    clip: Tensor

    def __init__(self, mean: Tensor, std: Tensor, clip: float | None = 10.0) -> None:
        super().__init__()
        if clip is not None and not clip > 0:
            raise ValueError(
                f"expected standardise_clip above 0, in standard deviations, or null, got {clip}"
            )
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
        constant = std <= _CONSTANT * mean.abs()
        divisor = torch.maximum(std, _SMALLEST * mean.abs()).masked_fill(constant, torch.inf)
        self.register_buffer("mean", mean.to(torch.float32, copy=True))
        self.register_buffer("std", divisor.to(torch.float32))
        self.register_buffer("clip", torch.tensor(torch.inf if clip is None else float(clip)))

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
        # In place: a second and a third table of all instances take twice the time.
        return (x - self.mean).div_(self.std).clamp_(-self.clip, self.clip)


def hardly_varying(mean: Tensor, std: Tensor) -> Tensor:
    r"""Which features hardly vary, constant ones among them.

    $$ \sigma_j \le 10^{-4} |\mu_j| $$

    Args:
        mean: of the features, of any shape.
        std: of the same shape.

    Returns:
        Bool, of the same shape.

    Example:
        >>> hardly_varying(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1e-5, 0.1, 0.0]))
        tensor([ True, False,  True])
    """
    return std <= _SMALLEST * mean.abs()
