"""Images that are read window by window, from wherever they lie."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ImageSource(Protocol):
    """An image that need not fit into memory: `AttentionSampling` reads the drawn patches of it.

    Implementations are in `milforge.data`. One that reads a file is pickled as its path, and opens
    the file once in each process.
    """

    @property
    def name(self) -> str:
        """What errors call it: the path of a file."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width at full resolution."""
        ...

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level of resolution; the first is the full one."""
        ...

    @property
    def mpp(self) -> float | None:
        """Micrometres of a pixel at full resolution, across; None where that is not known."""
        ...

    def read(self, offsets: Tensor, size: tuple[int, int], level: int = 0) -> Tensor:
        """Windows of the image.

        Args:
            offsets: `(n, 2)` int64 in host memory, row and column of the upper left corner of each
                window, in pixels of that level; it may lie anywhere, outside of the image too.
            size: height and width of a window.
            level: number of the level of resolution.

        Returns:
            `(n, C, h, w)` uint8 or float, in host memory; zero where there is no image.

        Raises:
            ValueError: for a level that there is not.
            OSError: where a window cannot be read; names file and window.
        """
        ...
