"""Tiles as GeoJSON that QuPath opens: detections with measurements."""

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from milforge.maps.tiles import TileMap

DIGITS = 6  # significant ones of a measurement


def tile_features(tiles: TileMap, top: int | None) -> Iterator[str]:
    """A feature per tile, as JSON, those that say most first.

    In pixels of the slide's level 0 where it is known how many a unit of the coords has.

    Args:
        tiles: the map.
        top: how many tiles at most; None: all.
    """
    factor = 1.0 if tiles.to_pixels is None else tiles.to_pixels
    measured = {json.dumps(name): each for name, each in tiles.measurements.items()}
    for i in tiles.ranked[:top].tolist():
        left, up = map(_short, tiles.corners[i] * factor)
        right, low = map(_short, (tiles.corners[i] + tiles.side) * factor)
        ring = f"[[{left},{up}],[{right},{up}],[{right},{low}],[{left},{low}],[{left},{up}]]"
        said = ",".join(
            f"{name}:{each[i]:.{DIGITS}g}"
            for name, each in measured.items()
            if np.isfinite(each[i])
        )
        yield (
            f'{{"type":"Feature","geometry":{{"type":"Polygon","coordinates":[{ring}]}},'
            f'"properties":{{"objectType":"detection","name":"tile {i}",'
            f'"measurements":{{{said}}}}}}}'
        )


def write_collection(path: Path, features: Iterable[str]) -> None:
    """Writes a compressed FeatureCollection, one feature at a time.

    The same features give the same bytes.
    """
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, "utf-8") as out,
    ):
        out.write('{"type":"FeatureCollection","features":[')
        for number, feature in enumerate(features):
            out.write(",\n" if number else "\n")
            out.write(feature)
        out.write("\n]}\n")


def _short(value: float) -> str:
    """A coordinate, to a hundredth.

    Example:
        >>> _short(448.0), _short(0.126)
        ('448', '0.13')
    """
    return f"{round(float(value), 2):.2f}".rstrip("0").rstrip(".")
