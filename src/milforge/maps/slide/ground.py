"""What the tiles of a map lie on: the slide, seen from afar, and tiles that are cut from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from milforge.maps.slide.pyramid import address, seen_from_afar
from milforge.maps.slide.slides import Slide
from milforge.maps.tiles import TileMap

CUTS = 8  # tiles of the highest scores that are cut out, and as many of the lowest


@dataclass(frozen=True)
class Ground:
    """A slide behind the tiles.

    Attributes:
        picture: the whole slide.
        width: of the slide in units of the coords; its corner is their origin.
        height: the same.
        highest: the tiles of the highest scores, cut from the slide: addresses by their numbers.
        lowest: the same of the lowest.
    """

    picture: Image.Image
    width: float
    height: float
    highest: Mapping[int, str] = field(default_factory=dict)
    lowest: Mapping[int, str] = field(default_factory=dict)


def lay(slide: Slide, tiles: TileMap) -> Ground:
    """The slide of a map.

    Args:
        slide: open.
        tiles: the map; how many pixels a unit of its coords has must be known.

    Raises:
        OSError: where the slide cannot be read.
    """
    factor = tiles.to_pixels
    assert factor is not None, "the unit of the coords is known"
    order = np.argsort(-tiles.main_values, kind="stable")
    count = min(CUTS, len(tiles) // 2)

    def cuts(numbers: list[int]) -> dict[int, str]:
        return {
            i: address(slide.cut(tiles.corners[i] * factor, tiles.side * factor)) for i in numbers
        }

    width, height = slide.size
    return Ground(
        seen_from_afar(slide.source),
        width / factor,
        height / factor,
        cuts(order[:count].tolist()),
        cuts(order[::-1][:count].tolist()),
    )
