"""Bands of like scores as GeoJSON that QuPath opens: neighbouring tiles are one region."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.images.sources.formats.packages import require
from milforge.maps.scale import Scale
from milforge.maps.tiles import TileMap

AT_ONCE = 10_000  # tiles that are merged at a time, so that few are in memory as polygons
DIGITS = 3  # significant ones of the ends of a band


def band_features(tiles: TileMap, scale: Scale, count: int) -> Iterator[str]:
    """A feature per band, as JSON: an annotation with a class and its colour, the lowest first.

    The bands share the scale evenly, so that an end lies at zero where it is signed and their
    number is even. What lies beyond the scale is in the first or the last band. A band without a
    tile has no feature; a tile whose score is not finite is in none. In pixels of level 0 where it
    is known how many a unit of the coords has.

    Args:
        tiles: the map.
        scale: of its main score, of which the bands are.
        count: number of bands.

    Raises:
        ModuleNotFoundError: where `shapely` is not installed.
    """
    values = tiles.main_values
    known = np.isfinite(values)
    band = np.minimum(scale.place(np.where(known, values, 0)) * count, count - 1).astype(int)
    for number, name in enumerate(band_names(scale, count)):
        rows = np.flatnonzero(known & (band == number))
        if not len(rows):
            continue
        said = {
            f"mean {measurement}": _rounded(each[rows])
            for measurement, each in tiles.measurements.items()
            if np.isfinite(each[rows]).any()
        }
        middle = round((number + 0.5) / count * 255)
        about = {
            "objectType": "annotation",
            "name": name,
            "classification": {
                "name": f"{tiles.main_name} {name}",
                "color": scale.colours[middle].tolist(),
            },
            "measurements": {"tiles": len(rows), **said},
        }
        geometry = region_of(tiles, rows)
        yield f'{{"type":"Feature","geometry":{geometry},"properties":{json.dumps(about)}}}'


def band_names(scale: Scale, count: int) -> list[str]:
    """What tells the bands apart: where they begin and end.

    Example:
        >>> band_names(Scale("signed", -2, 2), 4)
        ['below -1', '-1 to 0', '0 to 1', 'above 1']
    """
    ends = [f"{each:.{DIGITS}g}" for each in scale.values(np.arange(1, count) / count)]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(ends)]
    return [f"below {ends[0]}", *between, f"above {ends[-1]}"]


def region_of(tiles: TileMap, rows: NDArray[np.int64]) -> str:
    """The geometry of some tiles together as JSON, to a hundredth of a unit.

    Args:
        tiles: the map.
        rows: their numbers; at least one.
    """
    shapely: Any = require("shapely", "merge tiles into bands")
    factor = 1.0 if tiles.to_pixels is None else tiles.to_pixels
    # From top to bottom, so that those merged together are neighbours.
    rows = rows[np.lexsort(tiles.corners[rows].T)]
    low, high = (
        # To six digits before, so that the edge of two tiles is rounded alike in both.
        np.round(np.round((tiles.corners[rows] + side) * factor, 6), 2)
        for side in (0.0, tiles.side)
    )
    parts = []
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        parts.append(shapely.union_all(shapely.box(*low[part].T, *high[part].T)))
    whole = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    # Only what lies on a straight line goes.
    text: str = shapely.to_geojson(shapely.simplify(whole, 0, preserve_topology=False))
    return text


def _rounded(values: NDArray[np.float64]) -> float:
    return float(f"{np.nanmean(np.where(np.isfinite(values), values, np.nan)):.6g}")
