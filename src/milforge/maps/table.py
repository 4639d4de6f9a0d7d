"""The tiles of a map as a Parquet file: the source of all others."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from milforge.maps.kinds import KINDS
from milforge.maps.tiles import TileMap


def tiles_table(tiles: TileMap) -> pa.Table:
    """A row per tile.

    `index`, its number in the bag; `coord_0` and `coord_1`, its upper left corner as in the file of
    the bag; attention `score` and `weight`, null where there is none; `contribution_NAME`,
    `gradient_NAME` and `occlusion_NAME` for each output, and `probability_alone_NAME` for each
    class, where they are known; and the same of each of several models, with its name behind.
    """
    nothing = pa.nulls(len(tiles), pa.float64())
    columns = {
        "index": pa.array(np.arange(len(tiles))),
        "coord_0": pa.array(tiles.corners[:, 0]),
        "coord_1": pa.array(tiles.corners[:, 1]),
        "score": nothing if tiles.scores is None else pa.array(tiles.scores),
        "weight": nothing if tiles.weights is None else pa.array(tiles.weights),
    }
    for kind in KINDS:
        if kind.of != "bag":
            for name, each in tiles.columns(kind).items():
                columns[f"{kind.column}_{name}"] = pa.array(each)
    for member, said in tiles.members.items():
        for kind in KINDS:
            for name, each in tiles.columns(kind, said).items():
                columns["_".join(part for part in (kind.column, name, member) if part)] = (
                    pa.array(said.weights) if kind.of == "bag" else pa.array(each)
                )
    metadata = {"bag_id": tiles.name, "tile_size": repr(tiles.side)}
    return pa.table(columns, metadata=metadata)


def write_tiles(path: Path, tiles: TileMap) -> None:
    """Writes the table."""
    pq.write_table(tiles_table(tiles), path)
