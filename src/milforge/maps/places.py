"""Where the tiles of a bag lie, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from milforge.data.dataset import Tile
from milforge.maps.kinds import Floats
from milforge.maps.slide.slides import Slide, check_inside, open_slide
from milforge.maps.tiles import side_of


@dataclass(frozen=True, eq=False)
class Place:
    """Where the tiles of a bag lie.

    Attributes:
        corners: `(N, 2)`, see `TileMap`.
        side: of a tile.
        slide: behind them; None where there is none.
        missing: why the slide that was to be behind them is not; None where none was to be, or it
            is.
        to_pixels: see `TileMap`.
        to_micrometres: see `TileMap`.
        notes: what a reader should know of it.
    """

    corners: Floats
    side: float
    slide: Slide | None
    missing: str | None
    to_pixels: float | None
    to_micrometres: float | None
    notes: tuple[str, ...]


def place_tiles(
    name: str,
    corners: Floats,
    told: Tile,
    slides: Mapping[str, list[Path]] | None = None,
    mpp: float | None = None,
    tile_size: float | None = None,
) -> Place:
    """Where the tiles of a bag lie.

    Args:
        name: of the bag.
        corners: `(N, 2)`.
        told: what the files of the bag say of its tiles.
        slides: see `find_slides`; None: no slide is to be behind them.
        mpp: micrometres of a pixel of level 0; None: as the slide tells.
        tile_size: side of a tile in the units of the coords; None: as told, or else the stride.

    Raises:
        ValueError: where nothing tells the size of a tile.
    """
    notes = []
    side = side_of(corners, told.side if tile_size is None else tile_size)
    if tile_size is None and told.side is None:
        notes.append(
            "Nothing says how large a tile is: it is taken to be as large as the stride of the "
            "coords (tile_size= gives another size)."
        )
    unit, slide, missing = told.unit, None, None
    if slides is not None:
        try:
            slide = open_slide(slides, name, mpp)
            _check_fits(slide, unit, corners, side)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            slide, missing = None, " ".join(str(error).split())
    if slide is not None:
        mpp = slide.mpp  # of a slide that is another one it would be a wrong scale
    if unit is None and (slide is not None or (slides is None and mpp is not None)):
        unit = "px"
        notes.append("Its coords are taken for pixels of level 0 of the slide.")
    to_pixels = {"px": 1.0, "um": None if mpp is None else 1 / mpp}.get(unit or "")
    to_micrometres = {"px": mpp, "um": 1.0}.get(unit or "")
    return Place(corners, side, slide, missing, to_pixels, to_micrometres, tuple(notes))


def _check_fits(slide: Slide, unit: str | None, corners: Floats, side: float) -> None:
    if unit == "um" and slide.mpp is None:
        raise ValueError(
            "its coords are in micrometres, and nothing says how large a pixel of the slide is: "
            "give mpp=MICROMETRES"
        )
    factor = 1 / cast(float, slide.mpp) if unit == "um" else 1.0
    check_inside(slide, corners * factor, side * factor)
