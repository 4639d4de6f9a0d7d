"""An image in memory as a source."""

import torch
from torch import Tensor

from milforge.data.images.sources.file_source import check_read
from milforge.sampling import extract_patches


class TensorSource:
    """A tensor as an `ImageSource`, of one level.

    Args:
        image: `(C, H, W)` uint8 or float, in host memory. Not copied; no gradient flows to it.
        name: what errors call it.
        mpp: micrometres of a pixel; None where that is not known.

    Raises:
        ValueError: for another shape or dtype, or a tensor that is not in host memory.

    Example:
        >>> source = TensorSource(torch.arange(12.0).reshape(1, 3, 4))
        >>> source.read(torch.tensor([[1, 2]]), (2, 3))[0, 0]
        tensor([[ 6.,  7.,  0.],
                [10., 11.,  0.]])
    """

    def __init__(self, image: Tensor, name: str = "", mpp: float | None = None) -> None:
        if image.ndim != 3 or min(image.shape) < 1:
            raise ValueError(
                f"{name or 'image'}: expected a shape (C, H, W) without a 0, got "
                f"{tuple(image.shape)}"
            )
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ValueError(
                f"{name or 'image'}: expected uint8 or float, got {image.dtype}: convert it"
            )
        if image.device.type != "cpu":
            raise ValueError(
                f"{name or 'image'}: expected an image in host memory, got it on {image.device}: "
                "move it with .cpu()"
            )
        self.image = image.detach()
        self._name = name
        self._mpp = mpp

    @property
    def name(self) -> str:
        """What errors call it."""
        return self._name or "image in memory"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.image.shape
        return channels, height, width

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Its height and width: there is one level."""
        return (self.shape[1:],)

    @property
    def mpp(self) -> float | None:
        """Micrometres of a pixel, as given."""
        return self._mpp

    def read(self, offsets: Tensor, size: tuple[int, int], level: int = 0) -> Tensor:
        """Windows of the image, as `ImageSource.read` has it.

        Raises:
            ValueError: for a level other than 0, or offsets or size of another form.
        """
        check_read(self.name, self.levels, offsets, size, level)
        return extract_patches(self.image[None], offsets[None], size)[0]
