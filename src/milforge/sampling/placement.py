"""How large patches are and where they lie, in images of any size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milforge.sampling.micrometres import window_size
from milforge.sampling.offsets import patch_offsets
from milforge.sampling.source import ImageSource


@dataclass(frozen=True)
class Placement:
    """How patches lie.

    Args:
        patch_size: height and width of a patch, as a network sees it.
        receptive_field: as `patch_offsets` takes it.
        inside: as `patch_offsets` takes it.
        patch_um: height of a patch in micrometres, as `window_size` takes it.
    """

    patch_size: tuple[int, int]
    receptive_field: int = 0
    inside: bool = False
    patch_um: float | None = None

    def windows(self, x_high: Tensor | Sequence[ImageSource]) -> list[tuple[int, int]]:
        """Height and width of what a patch shows of each image, in its pixels.

        Raises:
            ValueError: for a size in micrometres, where an image does not say how large its pixels
                are, as a tensor never does.
        """
        if not isinstance(x_high, Tensor):
            return [window_size(source, self.patch_size, self.patch_um) for source in x_high]
        if self.patch_um is not None:
            raise ValueError(
                f"expected sources, which say how large their pixels are, for patches of "
                f"{self.patch_um:g} micrometres, got a tensor: leave patch_um out"
            )
        return [self.patch_size] * len(x_high)

    def offsets(
        self,
        indices: Tensor,
        map_size: tuple[int, int],
        x_low: Tensor,
        x_high: Tensor | Sequence[ImageSource],
    ) -> Tensor:
        """Upper left corners of the patches of these cells, at full resolution of each image.

        Args:
            indices: `(B, n, 2)` integer, row and column of each cell.
            map_size: height and width of the attention map.
            x_low: `(B, C, H, W)`, the low-resolution images.
            x_high: `(B, C, H', W')`, or `B` sources, each of a size of its own.

        Returns:
            `(B, n, 2)` int64; of sources in host memory, where they are read.

        Raises:
            ValueError: as `patch_offsets` and `windows`, and where indices, views and images do
                not fit each other.
        """
        check_images(len(indices), x_low, x_high)
        windows = self.windows(x_high)
        low = (x_low.shape[2], x_low.shape[3])
        field, inside = self.receptive_field, self.inside
        if isinstance(x_high, Tensor):
            high = (x_high.shape[2], x_high.shape[3])
            return patch_offsets(
                indices, map_size, low, high, self.patch_size, field, inside=inside
            )
        # The sizes differ, the arithmetic is small: not on a GPU.
        rows = zip(indices.cpu(), x_high, windows, strict=True)
        return torch.cat(
            [
                patch_offsets(
                    each[None], map_size, low, source.shape[1:], window, field, inside=inside
                )
                for each, source, window in rows
            ]
        )


def check_images(count: int, x_low: Tensor, x_high: Tensor | Sequence[ImageSource]) -> None:
    """Checks that views and images go with so many attention maps.

    Raises:
        ValueError: where they do not.
    """
    if isinstance(x_high, Tensor):
        if x_low.ndim != 4 or x_high.ndim != 4:
            raise ValueError(
                "expected low- and high-resolution images of shape (B, C, H, W), got "
                f"{tuple(x_low.shape)} and {tuple(x_high.shape)}"
            )
    elif x_low.ndim != 4 or count != len(x_high):
        raise ValueError(
            f"expected {count} sources, one for each attention map, and low-resolution images of "
            f"shape (B, C, H, W), got {len(x_high)} sources and {tuple(x_low.shape)}"
        )
