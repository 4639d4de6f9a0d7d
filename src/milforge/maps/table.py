"""The tiles of a map as a Parquet file: the source of all others."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from milforge.maps.tiles import TileMap


def tiles_table(tiles: TileMap) -> pa.Table:
    """A row per tile.

    `index`, its number in the bag; `coord_0` and `coord_1`, its upper left corner as in the file of
    the bag; attention `score` and `weight`, null where there is none; `contribution_NAME` for each
    output; and `probability_alone_NAME` for each class.
    """
    nothing = pa.nulls(len(tiles), pa.float64())
    columns = {
        "index": pa.array(np.arange(len(tiles))),
        "coord_0": pa.array(tiles.corners[:, 0]),
        "coord_1": pa.array(tiles.corners[:, 1]),
        "score": nothing if tiles.scores is None else pa.array(tiles.scores),
        "weight": nothing if tiles.weights is None else pa.array(tiles.weights),
    }
    if tiles.contributions is not None:
        for name, each in zip(tiles.outputs, tiles.contributions.T, strict=True):
            columns[f"contribution_{name}"] = pa.array(each)
    if tiles.probability is not None:
        for name, each in zip(tiles.classes, tiles.probability.T, strict=True):
            columns[f"probability_alone_{name}"] = pa.array(each)
    metadata = {"bag_id": tiles.name, "tile_size": repr(tiles.side)}
    return pa.table(columns, metadata=metadata)


def write_tiles(path: Path, tiles: TileMap) -> None:
    """Writes the table."""
    pq.write_table(tiles_table(tiles), path)
