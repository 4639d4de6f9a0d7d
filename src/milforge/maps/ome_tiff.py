"""A map as a pyramidal OME-TIFF, for viewers that lay one image over another."""

from pathlib import Path

import numpy as np

from milforge.data.images.sources.formats.packages import require
from milforge.maps.picture import extent_of, paint
from milforge.maps.scale import Scale
from milforge.maps.slide.ground import Ground
from milforge.maps.tiles import TileMap

TILE_PIXELS = 8  # of a tile of the map
LARGEST = 8192  # pixels of the longer side
TILE = 512
SMALLEST = 512  # longer side of the last level


def write_ome_tiff(path: Path, tiles: TileMap, scale: Scale, ground: Ground | None = None) -> None:
    """Writes the main score of a map in its colours, white where there is no tile.

    It covers the whole slide where that is at hand, and says how large its pixels are where that is
    known.

    Args:
        path: to be written.
        tiles: the map.
        scale: the colours.
        ground: the slide, of which the size counts; None: the tiles alone are covered.

    Raises:
        ModuleNotFoundError: where `tifffile` is not installed.
    """
    tifffile = require("tifffile")
    start, extent = extent_of(tiles, ground)
    factor = min(TILE_PIXELS / tiles.side, LARGEST / extent.max())
    width, height = np.maximum(np.rint(extent * factor), 1).astype(int)
    pixels = np.full((height, width, 3), 255, np.uint8)
    paint(pixels, tiles, scale.place(tiles.main_values), scale, start, factor)
    levels = [pixels]
    while max(levels[-1].shape) > SMALLEST:
        levels.append(levels[-1][::2, ::2])
    metadata = {"axes": "YXS", "Name": f"{tiles.name}: {tiles.main_name}"}
    if tiles.to_micrometres is not None:
        size = tiles.to_micrometres / factor
        metadata |= {"PhysicalSizeX": size, "PhysicalSizeY": size}
        metadata |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    options = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as out:
        out.write(pixels, subifds=len(levels) - 1, metadata=metadata, **options)
        for level in levels[1:]:
            out.write(level, subfiletype=1, **options)
