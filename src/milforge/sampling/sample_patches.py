"""Patches at sampled places."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from milforge.sampling.locations import sample_locations
from milforge.sampling.micrometres import read_scaled
from milforge.sampling.offsets import check_size
from milforge.sampling.patches import as_float, extract_patches
from milforge.sampling.placement import Placement
from milforge.sampling.read import read_patches
from milforge.sampling.source import ImageSource


class SamplePatches(nn.Module):
    """Draws cells of an attention map and cuts the patches there out of the large image.

    Args:
        n_patches: patches to be cut out of each image.
        patch_size: height and width of a patch.
        receptive_field: as `patch_offsets` takes it; 0 for padded convolutions.
        replace: whether a patch may be drawn again.
        use_logits: whether the attention is given as scores, before a softmax.

    Raises:
        ValueError: for a patch size that is not a height and a width of at least 1.

    Example:
        >>> sample = SamplePatches(n_patches=3, patch_size=(8, 6))
        >>> x_low, x_high = torch.rand(2, 1, 10, 10), torch.rand(2, 1, 100, 80)
        >>> patches, sampled_attention = sample(x_low, x_high, torch.ones(2, 10, 10))
        >>> patches.shape, sampled_attention.shape
        (torch.Size([2, 3, 1, 8, 6]), torch.Size([2, 3]))
    """

    def __init__(
        self,
        n_patches: int,
        patch_size: Sequence[int],
        receptive_field: int = 0,
        replace: bool = False,
        use_logits: bool = False,
    ) -> None:
        super().__init__()
        check_size("patch_size", patch_size)
        self.n_patches = n_patches
        self.patch_size = (patch_size[0], patch_size[1])
        self.receptive_field = receptive_field
        self.replace = replace
        self.use_logits = use_logits

    def forward(
        self, x_low: Tensor, x_high: Tensor | Sequence[ImageSource], attention: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draws and cuts.

        Args:
            x_low: `(B, C, H, W)`, the low-resolution images; only their size and dtype count.
            x_high: `(B, C, H', W')`, the images to be cut from, float or uint8; may be in host
                memory while the rest is on a GPU. Or `B` sources, of any sizes.
            attention: `(B, h, w)`, as `sample_locations` takes it.

        Returns:
            `patches` `(B, n, C, ph, pw)` float, uint8 scaled to [0, 1], and `sampled_attention`
            `(B, n)`, their probabilities, both in the order drawn.

        Raises:
            ValueError: as `sample_locations`, `patch_offsets`, `extract_patches` and
                `read_patches`.
            OSError: where a source cannot be read.
        """
        indices, probabilities = sample_locations(
            attention, self.n_patches, replace=self.replace, use_logits=self.use_logits
        )
        map_size = (attention.shape[1], attention.shape[2])
        placement = Placement(self.patch_size, self.receptive_field)
        return patches_at(indices, map_size, x_low, x_high, placement), probabilities

    def extra_repr(self) -> str:
        """The arguments, for `print`."""
        return (
            f"n_patches={self.n_patches}, patch_size={self.patch_size}, "
            f"receptive_field={self.receptive_field}, replace={self.replace}, "
            f"use_logits={self.use_logits}"
        )


def patches_at(
    indices: Tensor,
    map_size: tuple[int, int],
    x_low: Tensor,
    x_high: Tensor | Sequence[ImageSource],
    placement: Placement,
) -> Tensor:
    """The patches of given cells as float, on the device of the low-resolution images.

    Args:
        indices: `(B, n, 2)` integer, row and column of each cell.
        map_size: height and width of the attention map.
        x_low: `(B, C, H, W)`, the low-resolution images.
        x_high: `(B, C, H', W')`, float or uint8; or `B` sources, each of a size of its own.
        placement: how large the patches are, and where they lie.

    Returns:
        `(B, n, C, ph, pw)` float; what was read from sources is of the dtype of `x_low` where that
        is float.

    Raises:
        ValueError: as `Placement.offsets`, `extract_patches`, `read_patches` and `as_float`.
        OSError: where a source cannot be read.
    """
    dtype = x_low.dtype if x_low.is_floating_point() else torch.get_default_dtype()
    offsets = placement.offsets(indices, map_size, x_low, x_high)
    size = placement.patch_size
    if isinstance(x_high, Tensor):
        return as_float(extract_patches(x_high, offsets, size).to(x_low.device), dtype)
    if placement.patch_um is not None:
        windows = placement.windows(x_high)
        return read_scaled(x_high, offsets, windows, size, dtype).to(x_low.device)
    patches = read_patches(x_high, offsets, size).to(x_low.device)
    floats = patches.is_floating_point() and x_low.is_floating_point()
    return as_float(patches.to(x_low.dtype) if floats else patches, dtype)
