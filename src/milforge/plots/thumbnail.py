"""A bag as a small picture, drawn without axes: fast enough to be drawn in every epoch."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from torch import Tensor

from milforge.graph import grid_stride
from milforge.plots.attention.attention_scale import attention_norm
from milforge.plots.style import BLUE, PALE, as_pictures, value_range

SIDE = 128  # pixels
MOST_IMAGES = 8

Picture = NDArray[np.uint8]


def thumbnail(
    weights: Tensor, *, coords: Tensor | None = None, images: Tensor | None = None
) -> Picture:
    """Where the attention of a bag lies: a map, the instances, or bars.

    With coords, their first two axes are a map: each tile in the colour of its weight relative to
    the uniform one, as `plot_attention_maps` has it, white where there is no tile; of several
    tiles in one place the largest weight. Otherwise of images the eight of largest weight, the
    largest first, each above a bar as long as its weight relative to the largest. Otherwise a bar
    for each weight, the largest first, as high as it is relative to that.

    Args:
        weights: `(N,)` attention weights, at least one.
        coords: `(N, 2)` or `(N, 3)`.
        images: `(N, C, H, W)`.

    Returns:
        `(H, W, 3)` uint8, at most 128 pixels high or, of images, as many wide.

    Example:
        >>> thumbnail(torch.tensor([0.2, 0.8])).shape
        (128, 128, 3)
    """
    values = weights.detach().cpu().double().numpy()
    if coords is not None:
        return _map(values * len(values), coords[:, :2].detach().cpu().double())
    if images is not None:
        return _images(values, images)
    return _bars(values)


def _map(relative: NDArray[np.float64], places: Tensor) -> Picture:
    places = places - places.amin(0)
    extent = float(places.max())
    stride = grid_stride(places) if extent > 0 else 1.0
    cell = max(stride, extent / (SIDE - 1))
    across, down = (places / cell).round().long().T.numpy()
    grid = np.full((down.max() + 1, across.max() + 1), np.nan)
    np.fmax.at(grid, (down, across), relative)
    norm = attention_norm(relative)
    coloured = colormaps["viridis"](norm(np.nan_to_num(grid, nan=1.0)))[..., :3]
    coloured[np.isnan(grid)] = 1.0
    return _enlarged(_bytes(coloured))


def _images(values: NDArray[np.float64], images: Tensor) -> Picture:
    order = np.argsort(-values, kind="stable")[:MOST_IMAGES]
    pictures = as_pictures(images[torch.from_numpy(order.copy())])
    low, high = value_range([pictures])
    scaled = np.nan_to_num((pictures - low) / (high - low)).clip(0, 1)
    if scaled.ndim == 3:
        scaled = np.repeat(scaled[..., None], 3, axis=-1)
    tiles = []
    for picture, weight in zip(scaled, values[order], strict=True):
        tile = _enlarged(_bytes(picture), SIDE // 2)
        bar = np.full((4, tile.shape[1], 3), _bytes(np.array(to_rgb(PALE))))
        bar[:, : round(tile.shape[1] * weight / max(values.max(), 1e-30))] = _bytes(
            np.array(to_rgb(BLUE))
        )
        framed = np.concatenate([tile, bar])
        tiles.append(np.pad(framed, ((1, 1), (1, 1), (0, 0)), constant_values=255))
    return np.concatenate(tiles, axis=1)


def _bars(values: NDArray[np.float64]) -> Picture:
    ordered = np.sort(values)[::-1]
    columns = ordered[np.arange(SIDE) * len(ordered) // SIDE]
    heights = (columns / max(ordered[0], 1e-30) * SIDE).round()
    filled = np.arange(SIDE, 0, -1)[:, None] <= heights
    return _bytes(np.where(filled[..., None], to_rgb(BLUE), (1.0, 1.0, 1.0)))


def _bytes(values: NDArray[np.floating]) -> Picture:
    """From 0 to 1 as whole numbers."""
    return (values * 255).round().astype(np.uint8)


def _enlarged(picture: Picture, side: int = SIDE) -> Picture:
    """The picture with each pixel repeated, as large as fits into a side; a larger one thinned."""
    longest = max(picture.shape[:2])
    if longest > side:
        step = -(-longest // side)
        return picture[::step, ::step]
    factor = side // longest
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
