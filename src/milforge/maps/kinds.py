"""What can be said of a tile: each kind of score with its name, its colours and what it means."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Of = Literal["outputs", "classes", "bag"]
Colours = Literal["signed", "log", "linear"]


@dataclass(frozen=True)
class Kind:
    """A kind of score.

    Attributes:
        key: its name in options and in `Said`.
        name: its name on pages.
        column: what its columns in tables begin with.
        measurement: what its measurements in QuPath begin with.
        of: what there is a column of: each output of the model, each class, or the bag alone.
        colours: `signed`, with zero in the middle; `log`; or `linear` from 0 to 1.
        meaning: what a reader should know.
    """

    key: str
    name: str
    column: str
    measurement: str
    of: Of
    colours: Colours
    meaning: str


KINDS = (
    Kind(
        "contribution",
        "contribution",
        "contribution",
        "contribution",
        "outputs",
        "signed",
        "what the tile adds to the logit of the bag; all of them and the offset sum to the logit. "
        "Above zero speaks for the class, below zero against it.",
    ),
    Kind(
        "gradient",
        "gradient x input",
        "gradient",
        "gradient x input",
        "outputs",
        "signed",
        "the gradient of the logit times the features of the tile, as the network sees them: a "
        "first guess at what the tile adds. It does not sum to the logit.",
    ),
    Kind(
        "occlusion",
        "occlusion",
        "occlusion",
        "occlusion",
        "outputs",
        "signed",
        "by how much the logit falls when the tile and its neighbours in a square block are taken "
        "out of the bag, the same for all tiles of a block. It does not sum to the logit.",
    ),
    Kind(
        "attention",
        "attention (1 = uniform)",
        "weight",
        "attention (1 = uniform)",
        "bag",
        "log",
        "the tile's attention weight in multiples of the uniform one; it says where the model "
        "looks, not what for.",
    ),
    Kind(
        "probability",
        "probability of the tile alone",
        "probability_alone",
        "probability alone",
        "classes",
        "linear",
        "what the model predicts of a bag of that tile alone.",
    ),
)
BY_KEY = {kind.key: kind for kind in KINDS}
TOKEN = replace(
    BY_KEY["attention"],
    name="class token's attention (1 = uniform)",
    meaning="the row of the class token in the attention of the last layer, the mean of its heads, "
    "in multiples of the uniform weight: where the token looks at what layers before have mixed.",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Said:
    """What a model, or several together, say of the N tiles of a bag; None where they do not.

    Attributes:
        weights: `(N,)` attention weights.
        contributions: `(N, O)`, exact.
        gradient: `(N, O)` gradient times input.
        occlusion: `(N, O)` what the logits lose without the block of the tile.
        probability: `(N, C)` what is predicted of a bag of that tile alone.
    """

    weights: Floats | None = None
    contributions: Floats | None = None
    gradient: Floats | None = None
    occlusion: Floats | None = None
    probability: Floats | None = None

    @cached_property
    def relative(self) -> Floats | None:
        """`(N,)` attention in multiples of the uniform weight `1 / N`."""
        return None if self.weights is None else self.weights * len(self.weights)

    def values(self, key: str) -> Floats | None:
        """The `(N, K)` scores of a kind, attention relative to the uniform one."""
        if key == "attention":
            return None if self.relative is None else self.relative[:, None]
        found: Floats | None = getattr(self, "contributions" if key == "contribution" else key)
        return found
