"""Instance encoders: from an instance of any shape to a vector.

An encoder is built from the shape of an instance, which the data know, and states the width of
its vectors as `out_dim`.
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn


class IdentityEncoder(nn.Module):
    """Leaves feature vectors as they are.

    Args:
        instance_shape: shape of an instance, `(D,)`.

    Raises:
        ValueError: where an instance is not a vector.
    """

    def __init__(self, instance_shape: Sequence[int]) -> None:
        super().__init__()
        if len(instance_shape) != 1:
            raise ValueError(
                f"expected feature vectors, got instances of shape {tuple(instance_shape)}; "
                "for images choose model/encoder=mlp or model/encoder=lenet"
            )
        self.out_dim = instance_shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """`(N, D)` to `(N, D)`."""
        return x


class FlattenEncoder(nn.Flatten):
    """Feature vectors as they are; anything else is flattened.

    Args:
        instance_shape: shape of an instance.

    Example:
        >>> FlattenEncoder((1, 8, 8)).out_dim
        64
    """

    def __init__(self, instance_shape: Sequence[int]) -> None:
        super().__init__()
        self.out_dim = prod(instance_shape)


class MLPEncoder(nn.Sequential):
    """Dense layers with ReLU, and dropout after each.

    Args:
        instance_shape: shape of an instance; anything but a vector is flattened.
        hidden: widths of the layers, at least one; the last is `out_dim`.
        dropout: probability of dropping a feature.

    Raises:
        ValueError: where there is no layer, or one without width, or no such probability.

    Example:
        >>> MLPEncoder((1, 28, 28), hidden=(128, 64)).out_dim
        64
    """

    def __init__(
        self,
        instance_shape: Sequence[int],
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        if not hidden or min(hidden) < 1:
            raise ValueError(f"expected hidden widths of at least 1, got {list(hidden)}")
        widths = [prod(instance_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for i, width in enumerate(hidden):
            layers += [nn.Linear(widths[i], width), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers)
        self.out_dim = hidden[-1]


class LeNetEncoder(nn.Sequential):
    """The small convolutional encoder of the ABMIL experiments on 28 x 28 images.

    Two convolutions (20 and 50 channels of 5 x 5, ReLU, 2 x 2 max pooling) and a dense layer of
    500 with ReLU (Ilse, Tomczak and Welling 2018, arXiv:1802.04712, table of the MNIST-bags
    architecture).

    Args:
        instance_shape: shape of an instance, `(C, H, W)`, with sides of at least 16.

    Raises:
        ValueError: where an instance is no image, or too small for two such convolutions.
    """

    out_dim = 500

    def __init__(self, instance_shape: Sequence[int]) -> None:
        if len(instance_shape) != 3 or min(instance_shape[1:]) < 16:
            raise ValueError(
                f"expected images of shape (channels, height, width) with sides of at least 16, "
                f"got instances of shape {tuple(instance_shape)}; choose model/encoder=mlp"
            )
        channels, *sides = instance_shape
        height, width = (((side - 4) // 2 - 4) // 2 for side in sides)
        super().__init__(
            nn.Conv2d(channels, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(50 * height * width, self.out_dim),
            nn.ReLU(),
        )
