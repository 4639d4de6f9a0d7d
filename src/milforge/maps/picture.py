"""A map as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from milforge.maps.scale import Scale, Scales
from milforge.maps.tiles import Floats, TileMap

LONGEST = 1600  # pixels of the longer side of a map
LARGEST = 24  # pixels of a tile
GROUND = 205  # grey where there is no tile


def raster(tiles: TileMap, values: Floats, scale: Scale) -> NDArray[np.uint8]:
    """The tiles as pixels `(H, W, 3)`, without smoothing.

    Args:
        tiles: the map.
        values: `(N,)`.
        scale: their colours.
    """
    corners = tiles.corners - tiles.corners.min(axis=0)
    extent = corners.max(axis=0) + tiles.side
    factor = min(LONGEST / extent.max(), LARGEST / tiles.side)
    width, height = np.maximum(np.rint(extent * factor), 1).astype(int)
    pixels = np.full((height, width, 3), GROUND, np.uint8)
    colours = scale.colours[np.rint(scale.place(values) * 255).astype(int)]
    first = np.minimum(np.rint(corners * factor).astype(int), [width - 1, height - 1])
    last = np.maximum(np.rint((corners + tiles.side) * factor).astype(int), first + 1)
    for (x0, y0), (x1, y1), colour in zip(first.tolist(), last.tolist(), colours, strict=True):
        pixels[y0:y1, x0:x1] = colour
    return pixels


def draw_map(tiles: TileMap, scales: Scales) -> Figure:
    """The contributions to the predicted output, or where there are none the attention."""
    if tiles.contributions is not None:
        assert scales.contribution is not None
        values, scale = tiles.contributions[:, tiles.shown], scales.contribution
        name = f"contribution to {tiles.outputs[tiles.shown]}"
    else:
        assert tiles.relative is not None
        assert scales.attention is not None
        values, scale = tiles.relative, scales.attention
        name = "attention (1 = uniform)"
    pixels = raster(tiles, values, scale)
    height, width = pixels.shape[:2]
    long = 8 / max(width, height)
    figure = Figure((max(4.5, width * long + 1.6), max(2.2, height * long + 1.0)))
    axes = figure.add_axes((0.03, 0.1, 0.78, 0.76))
    axes.imshow(pixels, interpolation="nearest")
    axes.set_axis_off()
    # Names of bags may hold a $, which is no formula.
    shown = tiles.name if len(tiles.name) <= 60 else f"{tiles.name[:57]}..."
    axes.set_title(shown, fontsize=10, loc="left", parse_math=False, pad=16)
    label = "" if tiles.label is None else f"true: {tiles.label}; "
    axes.text(
        0, 1.01, f"{label}predicted: {tiles.predicted}",
        transform=axes.transAxes, fontsize=8, va="bottom", parse_math=False,
    )  # fmt: skip
    units = nice(width * tiles.side / _tile_pixels(tiles, width) / 4)
    length = units * _tile_pixels(tiles, width) / tiles.side
    y = height * 1.03 + 4
    axes.plot([0, length], [y, y], color="black", lw=2, clip_on=False, solid_capstyle="butt")
    axes.text(0, y * 1.01 + 3, f"{units:,g} units of the coords", fontsize=7, va="top")
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    norm = (LogNorm if scale.kind == "log" else Normalize)(scale.low, scale.high)
    mappable = ScalarMappable(norm, ListedColormap(scale.colours / 255))
    bar = figure.colorbar(mappable, cax=figure.add_axes((0.84, 0.15, 0.025, 0.66)), extend="both")
    bar.set_label(name, fontsize=8, parse_math=False)
    bar.ax.tick_params(labelsize=7)
    return figure


def write_picture(path: Path, tiles: TileMap, scales: Scales) -> None:
    """Writes the picture as PNG."""
    draw_map(tiles, scales).savefig(path, format="png", dpi=150)


def nice(value: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is no larger.

    Example:
        >>> nice(37.0), nice(0.6)
        (20.0, 0.5)
    """
    decade = 10.0 ** np.floor(np.log10(value))
    return float(decade * max(step for step in (1, 2, 5) if step * decade <= value * (1 + 1e-9)))


def _tile_pixels(tiles: TileMap, width: int) -> float:
    extent = float(np.ptp(tiles.corners[:, 0])) + tiles.side
    return width * tiles.side / extent
