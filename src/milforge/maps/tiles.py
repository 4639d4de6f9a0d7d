"""The tiles of a bag with what they say: what every kind of map is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from milforge.graph.stride import as_points, stride_of
from milforge.maps.kinds import BY_KEY, KINDS, TOKEN, Floats, Kind, Said

LONGEST = 150  # of a folder's name, in bytes


@dataclass(frozen=True, eq=False)
class TileMap(Said):
    """One bag, and what is said of its tiles: see `Said`, of several models their mean.

    Attributes:
        name: of the bag.
        corners: `(N, 2)` x and y of the upper left corner of each tile, in the units of the coords.
        side: of a tile, in the same units.
        outputs: the names of the O outputs of the model.
        classes: the names of the classes that probabilities are of.
        logits: `(O,)`, of the network; of several, their mean.
        scores: `(N,)` attention scores before the softmax, None where there are none.
        offset: `(O,)`, what is added to the contributions; None where there are none.
        main: the key of the score that pictures show, and that says which tiles say most.
        shown: the number of the output of which pictures are drawn: the predicted one.
        label: the true label in words; None where unknown.
        predicted: what is predicted, in words.
        notes: what a reader should know.
        members: what each of several models says, by its name.
        of_token: whether the attention is the row of a class token.
        to_pixels: pixels of the slide's level 0 in a unit of the coords; None where unknown.
        to_micrometres: micrometres in a unit of the coords; None where unknown.
    """

    name: str
    corners: Floats
    side: float
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    logits: Floats
    scores: Floats | None = None
    offset: Floats | None = None
    main: str = "contribution"
    shown: int = 0
    label: str | None = None
    predicted: str = ""
    notes: tuple[str, ...] = ()
    members: Mapping[str, Said] = field(default_factory=dict)
    of_token: bool = False
    to_pixels: float | None = None
    to_micrometres: float | None = None

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.corners)

    def columns(self, kind: Kind, said: Said | None = None) -> dict[str, Floats]:
        """The scores of a kind by the names of their columns, `(N,)` each; none where unknown.

        Args:
            kind: which.
            said: by whom; None: by all together.
        """
        values = (self if said is None else said).values(kind.key)
        if values is None:
            return {}
        names = {"outputs": self.outputs, "classes": self.classes, "bag": ("",)}[kind.of]
        return dict(zip(names, values.T, strict=True))

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of scores that are known, the main one first."""
        known = [self.kind(kind.key) for kind in KINDS if self.values(kind.key) is not None]
        return sorted(known, key=lambda kind: kind.key != self.main)

    def kind(self, key: str) -> Kind:
        """What is known of the scores of a kind."""
        return TOKEN if self.of_token and key == "attention" else BY_KEY[key]

    @property
    def main_values(self) -> Floats:
        """`(N,)` scores of the kind that pictures show, of the output that is shown."""
        values = self.values(self.main)
        assert values is not None, f"a map has {self.main}"
        return values[:, self.shown if values.shape[1] > 1 else 0]

    @property
    def main_name(self) -> str:
        """What these are, in words."""
        kind = self.kind(self.main)
        return kind.name if kind.of == "bag" else f"{kind.name} to {self.outputs[self.shown]}"

    @property
    def unit(self) -> str:
        """What the coords are in, as far as it is known."""
        return "units of the coords" if self.to_pixels is None else "pixels"

    @property
    def side_in_words(self) -> str:
        """The side of a tile, in micrometres too where they are known."""
        size = self.side * (self.to_pixels or 1.0)
        known = (
            "" if self.to_micrometres is None else f" ({self.side * self.to_micrometres:.4g} µm)"
        )
        return f"{size:,.6g} {self.unit}{known}"

    @property
    def measurements(self) -> Mapping[str, Floats]:
        """What is known of each tile, by name, `(N,)` each."""
        return {
            " ".join(part for part in (kind.measurement, name) if part): values
            for kind in KINDS
            for name, values in self.columns(kind).items()
        }

    @property
    def ranked(self) -> NDArray[np.int64]:
        """The numbers of the tiles, those that say most first."""
        values = self.values(self.main)
        assert values is not None, f"a map has {self.main}"
        order: NDArray[np.int64] = np.argsort(-np.abs(values).max(axis=1), kind="stable")
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
