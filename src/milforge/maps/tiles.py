"""The tiles of a bag with what they say: what every kind of map is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from milforge.graph.stride import as_points, stride_of

Floats = NDArray[np.float64]

LONGEST = 150  # of a folder's name, in bytes


@dataclass(frozen=True, eq=False)
class TileMap:
    """One bag.

    Attributes:
        name: of the bag.
        corners: `(N, 2)` x and y of the upper left corner of each tile, in the units of the coords.
        side: of a tile, in the same units.
        outputs: the names of the O outputs of the model.
        classes: the names of the classes that probabilities are of.
        scores: `(N,)` attention scores before the softmax, None where there are none.
        weights: `(N,)` attention weights, None where there are none.
        contributions: `(N, O)`, None where there are none that are exact.
        offset: `(O,)`, what is added to the contributions; None where there are none.
        logits: `(O,)`, what both sum to.
        probability: `(N, C)` what is predicted of a bag of that tile alone, None where unknown.
        shown: the number of the output of which pictures are drawn: the predicted one.
        label: the true label in words; None where unknown.
        predicted: what is predicted, in words.
        notes: what a reader should know.
    """

    name: str
    corners: Floats
    side: float
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    scores: Floats | None
    weights: Floats | None
    contributions: Floats | None
    offset: Floats | None
    logits: Floats
    probability: Floats | None
    shown: int = 0
    label: str | None = None
    predicted: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.corners)

    @cached_property
    def relative(self) -> Floats | None:
        """`(N,)` attention in multiples of the uniform weight `1 / N`."""
        return None if self.weights is None else self.weights * len(self)

    @property
    def measurements(self) -> Mapping[str, Floats]:
        """What is known of each tile, by name, `(N,)` each."""
        found: dict[str, Floats] = {}
        if self.contributions is not None:
            columns = zip(self.outputs, self.contributions.T, strict=True)
            found |= {f"contribution {name}": each for name, each in columns}
        if self.relative is not None:
            found["attention (1 = uniform)"] = self.relative
        if self.probability is not None:
            columns = zip(self.classes, self.probability.T, strict=True)
            found |= {f"probability alone {name}": each for name, each in columns}
        return found

    @property
    def ranked(self) -> NDArray[np.int64]:
        """The numbers of the tiles, those that say most first."""
        if self.contributions is not None:
            says = np.abs(self.contributions).max(axis=1)
        else:
            assert self.weights is not None, "a map has attention or contributions"
            says = self.weights
        order: NDArray[np.int64] = np.argsort(-says, kind="stable")
        return order


def corners_of(coords: torch.Tensor | None, slide: torch.Tensor | None = None) -> Floats:
    """The corners `(N, 2)` of the tiles of a bag.

    Args:
        coords: `(N, 2)` or `(N, 3)`, whose third column may not vary.
        slide: `(N,)` which slide of a patient a tile is of.

    Raises:
        ValueError: where there are none that lie in one plane.
    """
    if coords is None:
        raise ValueError("it has no coords, so nobody knows where its tiles lie")
    if slide is not None and len(slide) and int(slide[0]) != int(slide[-1]):
        raise ValueError(
            "it holds several slides, each with coords of its own: map a model of single slides "
            "(data.bag=slide)"
        )
    points = coords.detach().cpu().double().numpy()
    if not np.isfinite(points).all():
        raise ValueError("its coords hold NaN or infinity")
    if points.shape[1] == 3 and np.ptp(points[:, 2]) > 0:
        raise ValueError("its coords are those of a volume, and a map is of a plane")
    corners: Floats = points[:, :2]
    return corners


def side_of(corners: Floats, given: float | None) -> float:
    """The side of a tile: as given, or else the stride of the coords.

    Raises:
        ValueError: where the coords do not tell.
    """
    if given is not None:
        return given
    remedy = "give tile_size=PIXELS, the side of a tile in the units of the coords"
    if len(corners) < 2:
        raise ValueError(f"a single tile does not tell its size: {remedy}")
    try:
        return float(stride_of(as_points(torch.from_numpy(corners))))
    except ValueError as error:
        raise ValueError(f"its coords do not tell the size of a tile ({error}): {remedy}") from None


def folder_of(name: str) -> str:
    """The name of a bag as that of its folder.

    Raises:
        ValueError: where it would leave the folder of the maps, or is none.

    Example:
        >>> folder_of("TCGA-01 (a)")
        'TCGA-01 (a)'
    """
    bad = set(name) & set('/\\:*?"<>|') or any(ord(sign) < 32 for sign in name)
    if bad or not name.strip() or name[0] == "." or name[-1] in ". " or name == "index.html":
        raise ValueError(f"its name {name!r} cannot be that of a folder: rename the bag")
    if len(name.encode()) > LONGEST:
        raise ValueError(f"its name of {len(name)} letters is too long for a folder: rename it")
    return name
