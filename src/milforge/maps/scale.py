"""Colours: one scale for all bags of a run, so that a negative slide looks negative."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from milforge.maps.tiles import Floats, TileMap

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

    kind: Literal["signed", "log", "linear"]
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

    @property
    def colours(self) -> NDArray[np.uint8]:
        """`(256, 3)`, from the first to the last."""
        table = colormaps[SIGNED if self.kind == "signed" else PLAIN](np.arange(256))
        found: NDArray[np.uint8] = np.rint(table[:, :3] * 255).astype(np.uint8)
        return found


@dataclass(frozen=True)
class Scales:
    """Those of a run; None where no map has such values."""

    contribution: Scale | None
    attention: Scale | None
    probability: Scale = Scale("linear", 0.0, 1.0)


def scales_of(maps: Sequence[TileMap]) -> Scales:
    """One scale for all maps of a run.

    That of contributions ends at the value that 99.5% of the tiles stay below, without their sign;
    that of attention, in multiples of the uniform weight and in logarithms, runs from 0.5 to 2 at
    least, so that even attention looks even.
    """
    said = [np.abs(each.contributions).ravel() for each in maps if each.contributions is not None]
    paid = [each.relative for each in maps if each.relative is not None]
    contribution = attention = None
    if said:
        every = np.concatenate(said)
        limit = float(np.quantile(every, SHARE, method="higher")) or float(every.max()) or 1.0
        contribution = Scale("signed", -limit, limit)
    if paid:
        every = np.concatenate(paid)
        high = max(float(np.quantile(every, SHARE, method="higher")), 2.0)
        attention = Scale("log", min(max(float(every.min()), 0.1), 0.5), high)
    return Scales(contribution, attention)
