"""Where the tiles of a predicted bag lie, and the slide that figures show behind them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from milforge.callbacks.records import BagRecord
from milforge.data.dataset import Tile, bag_tile
from milforge.maps.places import Place, place_tiles
from milforge.maps.slide.pyramid import seen_from_afar
from milforge.maps.tiles import corners_of
from milforge.plots.attention.bag_strips import Backdrop

logger = logging.getLogger(__name__)

LONGEST = 2048  # pixels of the longer side of a slide in a figure


@dataclass(frozen=True, eq=False)
class Scene:
    """What a figure shows beside the tiles of a bag.

    Attributes:
        unit: of the scale bar; None: there is none.
        per_coord: so many of that unit are one of the coords.
        slide: behind the tiles; None where there is none.
    """

    unit: str | None = None
    per_coord: float = 1.0
    slide: Backdrop | None = None


def place_of(
    trainer: L.Trainer,
    record: BagRecord,
    number: int,
    slides: Mapping[str, list[Path]] | None = None,
    mpp: float | None = None,
    tile_size: float | None = None,
) -> Place:
    """Where the tiles of a bag lie.

    Args:
        trainer: the running trainer.
        record: the bag.
        number: of the bag in its part.
        slides: see `find_slides`; None: no slide is to be behind them.
        mpp: micrometres of a pixel of level 0; None: as the slide tells.
        tile_size: side of a tile in the units of the coords; None: as the files tell, or the
            stride of the coords.

    Raises:
        ValueError: where it has no coords in one plane, or nothing tells the size of a tile.
    """
    data: Any = getattr(trainer, "datamodule", None)
    told = Tile() if data is None else bag_tile(data.parts[record.part], number)
    corners = corners_of(record.coords, record.slide)
    return place_tiles(record.bag_id, corners, told, slides, mpp, tile_size)


def scene_of(
    trainer: L.Trainer,
    record: BagRecord,
    number: int,
    slides: Mapping[str, list[Path]] | None,
    mpp: float | None,
) -> Scene:
    """What a figure is to show of the place of a bag, as far as it is known.

    A slide that is missing or cannot be read is warned about.
    """
    try:
        place = place_of(trainer, record, number, slides, mpp)
    except ValueError:  # no tiles in a plane
        return Scene()
    unit, per_coord, slide, missing = None, 1.0, None, place.missing
    if place.to_micrometres is not None:
        unit, per_coord = "µm", place.to_micrometres
    elif place.to_pixels is not None:
        unit, per_coord = "pixels", place.to_pixels
    if place.slide is not None and place.to_pixels is not None:
        width, height = place.slide.size
        try:
            picture = np.asarray(seen_from_afar(place.slide.source, LONGEST))
            slide = Backdrop(picture, width / place.to_pixels, height / place.to_pixels)
        except OSError as error:
            missing = " ".join(str(error).split())
    if missing is not None:
        logger.warning("bag %s is drawn without its slide: %s", record.bag_id, missing)
    return Scene(unit, per_coord, slide)
