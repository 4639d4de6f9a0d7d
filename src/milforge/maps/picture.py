"""A map as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from milforge.lengths import bar_length, in_words
from milforge.maps.kinds import Floats
from milforge.maps.scale import Scale, Scales
from milforge.maps.slide.ground import Ground
from milforge.maps.tiles import TileMap

LONGEST = 1600  # pixels of the longer side of a map
LARGEST = 24  # pixels of a tile
GROUND = 205  # grey where there is no tile
OPACITY = 0.55  # of tiles on a slide
INCHES = 8  # of the longer side of a map
LEFT, RIGHT, TOP, BOTTOM = 0.25, 1.4, 0.65, 0.7  # inches around it


def raster(
    tiles: TileMap, values: Floats, scale: Scale, ground: Ground | None = None
) -> NDArray[np.uint8]:
    """The tiles as pixels `(H, W, 3)`, without smoothing.

    Args:
        tiles: the map.
        values: `(N,)`.
        scale: their colours.
        ground: the slide, of which the tiles let through some; None: they lie on grey.
    """
    start, extent = extent_of(tiles, ground)
    finest = LARGEST / tiles.side if ground is None else ground.picture.width / ground.width
    factor = min(LONGEST / extent.max(), finest)
    width, height = np.maximum(np.rint(extent * factor), 1).astype(int)
    if ground is None:
        pixels = np.full((height, width, 3), GROUND, np.uint8)
    else:
        pixels = np.array(ground.picture.resize((width, height)))
    under = pixels.copy()
    paint(pixels, tiles, scale.place(values), scale, start, factor)
    if ground is not None:
        pixels = np.rint(pixels * OPACITY + under * (1 - OPACITY)).astype(np.uint8)
    return pixels


def paint(
    pixels: NDArray[np.uint8],
    tiles: TileMap,
    places: Floats,
    scale: Scale,
    start: Floats,
    factor: float,
) -> None:
    """Paints tiles into pixels `(H, W, 3)`.

    Args:
        pixels: what is painted on.
        tiles: the map.
        places: `(N,)` on the scale.
        scale: the colours.
        start: `(2,)` the corner of the pixels in units of the coords.
        factor: pixels in such a unit.
    """
    height, width = pixels.shape[:2]
    colours = scale.colours[np.rint(places * 255).astype(int)]
    first, last = (
        np.rint((tiles.corners + side - start) * factor).astype(int) for side in (0, tiles.side)
    )
    first = np.clip(first, 0, [width - 1, height - 1])
    last = np.maximum(last, first + 1)
    for (x0, y0), (x1, y1), colour in zip(first.tolist(), last.tolist(), colours, strict=True):
        pixels[y0:y1, x0:x1] = colour


def extent_of(tiles: TileMap, ground: Ground | None) -> tuple[Floats, Floats]:
    """The corner `(2,)` and the size `(2,)` of what is drawn, in units of the coords."""
    if ground is not None:
        return np.zeros(2), np.array([ground.width, ground.height])
    start = tiles.corners.min(axis=0)
    return start, tiles.corners.max(axis=0) + tiles.side - start


def draw_map(tiles: TileMap, scales: Scales, ground: Ground | None = None) -> Figure:
    """The main score of the map, of the predicted output."""
    values, scale, name = tiles.main_values, scales[tiles.main], tiles.main_name
    pixels = raster(tiles, values, scale, ground)
    height, width = pixels.shape[:2]
    wide, high = width * INCHES / max(width, height), height * INCHES / max(width, height)
    size = max(4.5, LEFT + wide + RIGHT), max(2.2, TOP + high + BOTTOM)
    figure = Figure(size)

    def axes_at(left: float, w: float, h: float) -> Axes:
        bottom = size[1] - TOP - h
        return figure.add_axes((left / size[0], bottom / size[1], w / size[0], h / size[1]))

    axes = axes_at(LEFT, wide, high)
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
    known = tiles.to_micrometres
    extent = float(extent_of(tiles, ground)[1][0])
    pixels_a_unit = width / extent / (known or 1.0)
    units = bar_length(width / pixels_a_unit / 4)
    unit = tiles.unit if known is None else "µm"
    y = height * 1.03 + 4
    axes.plot(
        [0, units * pixels_a_unit], [y, y],
        color="black", lw=2, clip_on=False, solid_capstyle="butt",
    )  # fmt: skip
    axes.text(0, y * 1.01 + 3, in_words(units, unit), fontsize=7, va="top")
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    norm = (LogNorm if scale.kind == "log" else Normalize)(scale.low, scale.high)
    mappable = ScalarMappable(norm, ListedColormap(scale.colours / 255))
    bar = figure.colorbar(
        mappable, cax=axes_at(LEFT + wide + 0.25, 0.2, max(high, 1.2)), extend="both"
    )
    bar.set_label(name, fontsize=8, parse_math=False)
    bar.ax.tick_params(labelsize=7)
    return figure


def write_picture(path: Path, tiles: TileMap, scales: Scales, ground: Ground | None = None) -> None:
    """Writes the picture as PNG."""
    figure = draw_map(tiles, scales, ground)
    figure.savefig(path, format="png", dpi=150)
    # A figure and its axes know each other: without this those of many maps wait to be collected.
    figure.clear()
