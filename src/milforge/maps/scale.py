"""Colours: one scale for all bags of a run, so that a negative slide looks negative."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from milforge.maps.kinds import KINDS, Colours, Floats, Kind
from milforge.maps.store import MapStore
from milforge.maps.tiles import TileMap

SHARE = 0.995  # of the tiles of a run that the colours tell apart; the rest look like the last
SIGNED, PLAIN = "RdBu_r", "cividis"  # both can be read by the colour-blind


@dataclass(frozen=True)
class Scale:
    """From values to colours.

    Attributes:
        kind: `signed`, with zero in the middle; `log`; or `linear`.
        low: what has the first colour, or is below it.
        high: what has the last colour, or is above it.
    """

    kind: Colours
    low: float
    high: float

    def place(self, values: Floats) -> Floats:
        """Places on the scale, from 0 to 1.

        Example:
            >>> Scale("signed", -2, 2).place(np.array([-4.0, 0.0, 1.0])).tolist()
            [0.0, 0.5, 0.75]
        """
        if self.kind == "log":
            with np.errstate(divide="ignore"):
                found = (np.log(values) - math.log(self.low)) / math.log(self.high / self.low)
        else:
            found = (values - self.low) / (self.high - self.low)
        return np.clip(found, 0, 1)

    def values(self, places: Floats) -> Floats:
        """The values at places from 0 to 1: what `place` undoes.

        Example:
            >>> Scale("log", 0.1, 10.0).values(np.array([0.0, 0.5])).round(6).tolist()
            [0.1, 1.0]
        """
        if self.kind == "log":
            return np.asarray(self.low * (self.high / self.low) ** places)
        return np.asarray(self.low + (self.high - self.low) * places)

    @property
    def colours(self) -> NDArray[np.uint8]:
        """`(256, 3)`, from the first to the last."""
        table = colormaps[SIGNED if self.kind == "signed" else PLAIN](np.arange(256))
        found: NDArray[np.uint8] = np.rint(table[:, :3] * 255).astype(np.uint8)
        return found


# Those of a run by the key of their kind; missing where no map has such values.
Scales = Mapping[str, Scale]


def scales_of(maps: Sequence[TileMap] | MapStore) -> Scales:
    """One scale of each kind for all maps of a run, and for all models.

    A signed one ends at the value that 99.5% of the tiles stay below, without their sign; that of
    attention, in multiples of the uniform weight and in logarithms, runs from 0.5 to 2 at least, so
    that even attention looks even.

    Args:
        maps: are gone through twice, one at a time.
    """
    counts: dict[str, int] = {}
    lowest: dict[str, float] = {}
    for key, values in _sizes(maps):
        counts[key] = counts.get(key, 0) + len(values)
        lowest[key] = min(lowest.get(key, math.inf), float(values.min(initial=math.inf)))
    # Of all values only those beyond the end of the scale are held.
    largest = {key: np.empty(0) for key in counts}
    for key, values in _sizes(maps):
        kept = counts[key] - math.ceil(SHARE * (counts[key] - 1))
        largest[key] = np.sort(np.concatenate([largest[key], values]))[-kept:]
    return {
        kind.key: _scale(kind, lowest[kind.key], largest[kind.key])
        for kind in KINDS
        if kind.key in counts
    }


def _sizes(maps: Sequence[TileMap] | MapStore) -> Iterator[tuple[str, Floats]]:
    """The key of a kind, and its finite values in a map, unsigned, by all and by each model."""
    for tiles in maps:
        for said in (tiles, *tiles.members.values()):
            for kind in KINDS:
                values = said.values(kind.key)
                if values is not None:
                    yield kind.key, np.abs(values[np.isfinite(values)])


def _scale(kind: Kind, lowest: float, largest: Floats) -> Scale:
    if kind.colours == "linear":
        return Scale("linear", 0.0, 1.0)
    if not len(largest):  # nothing is finite
        lowest, largest = 1.0, np.ones(1)
    if kind.colours == "signed":
        limit = float(largest[0]) or float(largest[-1]) or 1.0
        return Scale("signed", -limit, limit)
    return Scale("log", min(max(lowest, 0.1), 0.5), max(float(largest[0]), 2.0))
