"""The folder of a map: its page, pictures and tables."""

from collections.abc import Callable
from pathlib import Path

from milforge.maps.bands import band_features
from milforge.maps.geojson import tile_features, write_collection
from milforge.maps.ome_tiff import write_ome_tiff
from milforge.maps.page import build_map_page
from milforge.maps.picture import write_picture
from milforge.maps.scale import Scales
from milforge.maps.slide.ground import Ground
from milforge.maps.table import write_tiles
from milforge.maps.tiles import TileMap
from milforge.processes.files import atomic_path


def write_map(
    folder: Path,
    tiles: TileMap,
    scales: Scales,
    ground: Ground | None = None,
    top: int | None = None,
    ome_tiff: bool = False,
    bands: int | None = None,
) -> None:
    """Writes `tiles.parquet`, `map.geojson.gz`, `map.png` and `map.html`.

    Args:
        folder: where to.
        tiles: the map.
        scales: its colours.
        ground: the slide behind; None: the tiles alone are drawn.
        top: how many tiles stand in the GeoJSON; None: all.
        ome_tiff: whether to write `map.ome.tif`, too.
        bands: of how many bands to write `bands.geojson.gz`, too; None: it is not written.
    """
    scale = scales[tiles.main]
    writers: dict[str, Callable[[Path], None]] = {
        "tiles.parquet": lambda path: write_tiles(path, tiles),
        "map.geojson.gz": lambda path: write_collection(path, tile_features(tiles, top)),
        "map.png": lambda path: write_picture(path, tiles, scales, ground),
    }
    also = []
    if bands is not None:
        also.append("bands.geojson.gz")
        found = band_features(tiles, scale, bands)
        writers["bands.geojson.gz"] = lambda path: write_collection(path, found)
    if ome_tiff:
        also.append("map.ome.tif")
        writers["map.ome.tif"] = lambda path: write_ome_tiff(path, tiles, scale, ground)
    for name, write in writers.items():
        with atomic_path(folder / name) as partial:
            write(partial)
    write_page(folder / "map.html", build_map_page(tiles, scales, ground, also))


def write_page(path: Path, text: str) -> None:
    """Writes a page."""
    with atomic_path(path) as partial:
        partial.write_text(text, "utf-8")
