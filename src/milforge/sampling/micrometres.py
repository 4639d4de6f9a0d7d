"""Patches of a size in micrometres: as much tissue in each, however a slide was scanned."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from milforge.sampling.patches import as_float
from milforge.sampling.read import read_patches
from milforge.sampling.source import ImageSource


def window_size(
    source: ImageSource, patch_size: tuple[int, int], patch_um: float | None = None
) -> tuple[int, int]:
    """Height and width, in pixels of an image, of what a patch shows.

    Args:
        source: the image.
        patch_size: height and width of a patch in pixels, as a network sees it.
        patch_um: height of a patch in micrometres; its width follows. None: a pixel of a patch is
            one of the image.

    Returns:
        `patch_size`, or so many pixels of the image, rounded and at least 1, as are `patch_um`.

    Raises:
        ValueError: where the image does not say how large its pixels are.

    Example:
        >>> from milforge.data import TensorSource
        >>> slide = TensorSource(torch.zeros(3, 900, 900), "slide", mpp=0.25)
        >>> window_size(slide, (224, 224)), window_size(slide, (224, 224), 112.0)
        ((224, 224), (448, 448))
    """
    if patch_um is None:
        return patch_size
    mpp = source.mpp
    if mpp is None:
        raise ValueError(
            f"{source.name}: expected an image that says how many micrometres its pixels are, for "
            f"patches of {patch_um:g}, got one that does not: leave it out, or set "
            "model.patch_um=null, for patches of so many pixels"
        )
    scale = patch_um / patch_size[0] / mpp
    return max(1, round(patch_size[0] * scale)), max(1, round(patch_size[1] * scale))


def read_scaled(
    sources: Sequence[ImageSource],
    offsets: Tensor,
    windows: Sequence[tuple[int, int]],
    patch_size: tuple[int, int],
    dtype: torch.dtype,
) -> Tensor:
    """Reads windows that are of another size in each image, as patches of one size.

    A window is read from the smallest level that has as many pixels of it as the patch, and scaled
    bilinearly with antialiasing; one of fewer pixels is enlarged, one of as many stays as it is.

    Args:
        sources: `B` images.
        offsets: `(B, n, 2)` integer in host memory, row and column of the upper left corner of
            each window, at full resolution.
        windows: `B` heights and widths of the windows at full resolution.
        patch_size: height and width of a patch.
        dtype: of the patches, float.

    Returns:
        `(B, n, C, ph, pw)` in host memory; uint8 is scaled to [0, 1].

    Raises:
        ValueError: as `read_patches`.
        OSError: where a window cannot be read; names file and window.
    """
    plans = [
        _plan(source, window, patch_size) for source, window in zip(sources, windows, strict=True)
    ]
    patches: dict[int, Tensor] = {}
    for level, window in dict.fromkeys(plans):  # those that are read alike, together
        chosen = [i for i, plan in enumerate(plans) if plan == (level, window)]
        places = torch.stack(
            [_at_level(sources[i], offsets[i], windows[i], level, window) for i in chosen]
        )
        read = read_patches([sources[i] for i in chosen], places, window, level)
        patches |= zip(chosen, _resized(as_float(read, dtype).to(dtype), patch_size), strict=True)
    return torch.stack([patches[i] for i in range(len(sources))])


def _plan(
    source: ImageSource, window: tuple[int, int], patch_size: tuple[int, int]
) -> tuple[int, tuple[int, int]]:
    """The level that a window is read from, and its size there."""
    chosen = 0, window
    for level, sides in enumerate(source.levels):
        height, width = (
            round(n * side / full)
            for n, side, full in zip(window, sides, source.shape[1:], strict=True)
        )
        if height >= patch_size[0] and width >= patch_size[1]:
            chosen = level, (height, width)
    return chosen


def _at_level(
    source: ImageSource, offsets: Tensor, window: tuple[int, int], level: int, size: tuple[int, int]
) -> Tensor:
    """Offsets `(n, 2)` of windows in pixels of a level, where they are of another size."""
    full, sides = torch.tensor(source.shape[1:]), torch.tensor(source.levels[level])
    places = (offsets * (sides.double() / full)).round().long()
    # Rounding moves nothing out of the image that lies within.
    within = offsets + torch.tensor(window) <= full
    return torch.where(within, places.minimum(sides - torch.tensor(size)), places)


def _resized(patches: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(patches.shape[3:]) == size:
        return patches
    flat = patches.flatten(0, 1)
    # Half precision is not known to it everywhere.
    precise = flat.to(torch.promote_types(flat.dtype, torch.float32))
    scaled = F.interpolate(precise, size, mode="bilinear", antialias=True)
    return scaled.to(patches.dtype).reshape(*patches.shape[:3], *size)
