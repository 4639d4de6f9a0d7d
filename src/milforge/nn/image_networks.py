"""The two networks of attention sampling: where to look, and what is there.

Built from the number of channels, which the data know.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AttentionCNN(nn.Module):
    """Padded convolutions with tanh, and a softmax over the image (arXiv:1905.03711).

    The map has the size of the image, so `receptive_field` is 0.

    Args:
        channels: number of channels of the image.
        hidden: channels of the layers before the last.
        kernel: height and width of the convolutions; odd.

    Raises:
        ValueError: for a width below 1, or a kernel that is not odd.

    Example:
        >>> attention = AttentionCNN(1)(torch.rand(2, 1, 6, 5))
        >>> attention.shape, attention.sum((1, 2)).allclose(torch.ones(2))
        (torch.Size([2, 6, 5]), True)
    """

    def __init__(self, channels: int, hidden: Sequence[int] = (8, 8), kernel: int = 3) -> None:
        super().__init__()
        if min(hidden, default=1) < 1:
            raise ValueError(f"expected hidden widths of at least 1, got {list(hidden)}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"expected an odd kernel, so that it can be padded, got {kernel}")
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Conv2d(channels, width, kernel, padding="same"), nn.Tanh()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, kernel, padding="same"))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to probabilities `(B, H, W)`, of at least float32."""
        scores = self.layers(x)[:, 0]
        dtype = torch.promote_types(scores.dtype, torch.float32)
        weights: Tensor = scores.flatten(1).softmax(1, dtype=dtype)
        return weights.reshape(scores.shape)


class PatchCNN(nn.Module):
    """One 7 x 7 and three 3 x 3 convolutions with ReLU, the maximum over the patch, normalised.

    As in the experiments of arXiv:1905.03711 on digits, whose patches are 50 x 50 and whose
    features have length 1.

    Args:
        channels: number of channels of the patches.
        width: channels of the layers.
        stride: stride of the first layer; 2 costs a quarter of the time.
        length: Euclidean length of the features; a longer one makes the head learn faster.

    Attributes:
        out_dim: width of the features.

    Raises:
        ValueError: for a width or stride below 1, or a length that is not above 0.

    Example:
        >>> PatchCNN(3, width=16)(torch.rand(4, 3, 20, 20)).shape
        torch.Size([4, 16])
    """

    def __init__(
        self, channels: int, width: int = 32, stride: int = 1, length: float = 1.0
    ) -> None:
        super().__init__()
        if min(width, stride) < 1:
            raise ValueError(f"expected width and stride of at least 1, got {width} and {stride}")
        if length <= 0:
            raise ValueError(f"expected a length of the features above 0, got {length}")
        self.out_dim = width
        self.length = length
        self.smallest = 7 + 6 * stride
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 7, stride),
            nn.ReLU(),
            *(layer for _ in range(3) for layer in (nn.Conv2d(width, width, 3), nn.ReLU())),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, h, w)` to `(N, width)`.

        Raises:
            ValueError: where a patch is too small for the convolutions.
        """
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"expected patches of at least {self.smallest} x {self.smallest} pixels, got "
                f"{x.shape[2]} x {x.shape[3]}; raise model.patch_size"
            )
        return self.length * F.normalize(self.layers(x).amax((2, 3)))
