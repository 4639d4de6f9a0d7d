"""The panels of a map: images, truth and values at the places of the instances."""

import math
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray
from scipy.stats import rankdata

from milforge.lengths import bar_length, in_words
from milforge.plots.attention.bag_strips import Backdrop
from milforge.plots.attention.instance_positions import Places
from milforge.plots.style import INK, ORANGE, PALE, SILVER, SMALL, VERMILION

BAND_TILES = {True: (12, 40), False: (1, 12)}  # stacked: fewest tiles to a band, most images
LOWEST_BAND = 0.1  # of its length, between maps
MOST_LINED = 40  # rows or columns of images with a line between them
Stage = Literal["data", "rgba"]
TRUTH = (("unknown", PALE), ("negative", SILVER), ("positive", ORANGE))


def draw_images(
    ax: Axes,
    places: Places,
    images: NDArray[np.float32],
    black_white: tuple[float, float],
    step: int,
) -> None:
    """The images at their places on white; of a chain one in `step`, `step` tiles long."""
    low, high = black_white
    images = np.nan_to_num((images - low) / (high - low)).clip(0, 1)
    x, y, (rows, columns) = places.x, places.y, places.shape
    if step > 1:
        order = np.argsort(x, kind="stable")
        x, first = np.unique(x[order] // step, return_index=True)
        images, y, columns = images[order[first]], np.zeros(len(x)), math.ceil(columns / step)
    height, width = images.shape[1:3]
    canvas = np.ones((rows * height, columns * width, *images.shape[3:]), dtype=np.float32)
    top, left = np.round(y * height).astype(int), np.round(x * width).astype(int)
    down = top[:, None, None] + np.arange(height)[:, None]
    canvas[down, left[:, None, None] + np.arange(width)] = images
    extent = (-0.5, columns * step - 0.5, rows - 0.5, -0.5)
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    if places.gridded and max(rows, columns) <= MOST_LINED:
        ax.vlines(np.arange(1, columns) * step - 0.5, -0.5, rows - 0.5, "white", linewidth=1)
        ax.hlines(np.arange(1, rows) - 0.5, -0.5, columns * step - 0.5, "white", linewidth=1)
    title_panel(ax, places, "images" if step == 1 else f"images (one in {step})")


def draw_slide(ax: Axes, places: Places, slide: Backdrop) -> None:
    """The part of the slide that the tiles were cut from."""
    assert places.tile is not None
    assert places.origin is not None
    left, top = -places.origin / places.tile - 0.5
    right, bottom = left + slide.width / places.tile, top + slide.height / places.tile
    ax.imshow(slide.picture, extent=(left, right, bottom, top), interpolation="antialiased")
    title_panel(ax, places, "slide")


def draw_scale_bar(ax: Axes, places: Places, unit: str, per_coord: float) -> None:
    """A bar below the panel, of about a quarter of its width; none where tiles have no size."""
    if places.tile is None or places.chain:
        return
    per_tile = places.tile * per_coord
    length = bar_length(max(places.shape[1] / 4, 0.5) * per_tile)
    bar = AnchoredSizeBar(
        ax.transData,
        length / per_tile,
        in_words(length, unit),
        loc="upper left",
        pad=0,
        borderpad=0.4,
        sep=2,
        frameon=False,
        size_vertical=0,
        color=INK,
        fontproperties=FontProperties(size=SMALL),
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes,
    )
    ax.add_artist(bar)


def draw_truth(ax: Axes, places: Places, truth: NDArray[np.int64]) -> None:
    """The truth at the places, positions in TRUTH, in its colours."""
    cmap = ListedColormap([colour for _, colour in TRUTH])
    draw_tiles(ax, places, truth, cmap, Normalize(0, len(TRUTH) - 1), stage="rgba")
    title_panel(ax, places, "truth")


def draw_ranks(ax: Axes, places: Places, weights: NDArray[np.float64]) -> None:
    """The order of the weights `(n,)`, however close they are; equal ones look alike."""
    shares = (rankdata(weights) - 0.5) / len(weights)
    draw_tiles(ax, places, shares[places.index], colormaps["cividis"], Normalize(0, 1), "data")
    title_panel(ax, places, "rank", "(bright: highest)")


def draw_tiles(
    ax: Axes, places: Places, values: NDArray[Any], cmap: Colormap, norm: Normalize, stage: Stage
) -> ScalarMappable:
    """The values as tiles where the places are on a grid, else as dots."""
    if places.gridded:
        raster = np.full(places.shape, np.nan)
        raster[places.y.astype(int), places.x.astype(int)] = values
        # Not to the nearest: where cells are smaller than pixels single tiles would be lost.
        tiles: ScalarMappable = ax.imshow(
            raster, cmap=cmap, norm=norm, interpolation="antialiased", interpolation_stage=stage
        )
        return tiles
    ones, places_xy = np.ones(len(values)), np.stack([places.x, places.y], axis=1)
    dots = EllipseCollection(
        ones,
        ones,
        0 * ones,
        units="xy",
        offsets=places_xy,
        offset_transform=ax.transData,
        array=values,
        cmap=cmap,
        norm=norm,
        linewidths=0,
    )
    ax.add_collection(dots)
    return dots


def title_panel(ax: Axes, places: Places, *lines: str, wrong: bool = False) -> None:
    """Lines above the axes; above a band, one line from its left end."""
    text = (", " if places.chain else "\n").join(lines)
    colour, weight = (VERMILION, "bold") if wrong else (INK, "normal")
    ax.set_title(text, fontsize=SMALL, color=colour, weight=weight, pad=4)
    if places.chain:
        ax.title.set(x=0, ha="left")


def frame_panel(ax: Axes, places: Places, stacked: bool) -> None:
    """A thin frame around all tiles; y goes downwards."""
    rows, columns = places.shape
    columns = max(columns, BAND_TILES[stacked][0])
    ax.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    ax.set_aspect("auto" if places.chain else "equal")
    if places.chain and not stacked:
        ax.set_box_aspect(max(1 / columns, LOWEST_BAND))
    ax.spines[:].set(color=PALE, linewidth=0.6)
