"""An image at less than its full resolution."""

import torch
from torch import Tensor

from milforge.sampling import ImageSource


class LevelSource:
    """A level of a pyramid as an `ImageSource` of its own: full resolution is that of the level.

    Args:
        source: the image.
        level: number of the level that becomes level 0.

    Raises:
        ValueError: where the image has no such level.
    """

    def __init__(self, source: ImageSource, level: int) -> None:
        if not 0 <= level < len(source.levels):
            known = ", ".join(f"{i}: {h} x {w}" for i, (h, w) in enumerate(source.levels))
            raise ValueError(
                f"{source.name}: expected data.level to be one of its levels ({known}), got {level}"
            )
        self.source = source
        self.level = level

    @property
    def name(self) -> str:
        """The same as of the image."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the level."""
        return (self.source.shape[0], *self.levels[0])

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """The level and those below it."""
        return self.source.levels[self.level :]

    @property
    def mpp(self) -> float | None:
        """Micrometres of a pixel of the level."""
        whole = self.source.mpp
        return None if whole is None else whole * self.source.levels[0][1] / self.levels[0][1]

    def read(self, offsets: Tensor, size: tuple[int, int], level: int = 0) -> Tensor:
        """Windows of the level, as `ImageSource.read` has it."""
        return self.source.read(offsets, size, self.level + level)


def at_full_resolution(source: ImageSource, offsets: Tensor) -> Tensor:
    """Offsets in an image as pixels of its full resolution, which those in a level are not.

    Args:
        source: the image, or a level of it.
        offsets: `(n, 2)` int64, row and column.

    Returns:
        `(n, 2)` int64, rounded.
    """
    if not isinstance(source, LevelSource):
        return offsets
    sides = zip(source.source.levels[0], source.levels[0], strict=True)
    factors = torch.tensor([whole / side for whole, side in sides], dtype=torch.float64)
    return (offsets * factors).round().to(offsets.dtype)
