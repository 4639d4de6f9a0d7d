"""An image of which damaged parts are black."""

import logging
from collections import Counter

import torch
from torch import Tensor

from milforge.sampling import ImageSource

logger = logging.getLogger(__name__)

# Windows that this process could not read, by the name of the image. Not of a source: those that
# worker processes send are copies.
unreadable: Counter[str] = Counter()


class TolerantSource:
    """An `ImageSource` whose windows are zeros where they cannot be read.

    Each is logged, and counted in `unreadable` of the process that read it.

    Args:
        source: the image.

    Raises:
        OSError: where it cannot be opened.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        # Now, for nothing can be asked of a file that is gone.
        self._dtype = source.read(torch.empty(0, 2, dtype=torch.int64), (1, 1)).dtype

    @property
    def name(self) -> str:
        """The same as of the image."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the image."""
        return self.source.shape

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """The same as of the image."""
        return self.source.levels

    @property
    def mpp(self) -> float | None:
        """The same as of the image."""
        return self.source.mpp

    def read(self, offsets: Tensor, size: tuple[int, int], level: int = 0) -> Tensor:
        """Windows of the image, as `ImageSource.read` has it, but for errors of reading."""
        try:
            return self.source.read(offsets, size, level)
        except OSError:
            # One of the windows is damaged; the others need not be lost.
            return torch.cat([self._read_one(offset, size, level) for offset in offsets[:, None]])

    def _read_one(self, offset: Tensor, size: tuple[int, int], level: int) -> Tensor:
        try:
            return self.source.read(offset, size, level)
        except OSError as error:
            logger.warning("%s; the window counts as black", error)
            unreadable[self.name] += 1
            return torch.zeros((1, self.shape[0], *size), dtype=self._dtype)
