"""The graph of a data set: how the adjacency of each of its bags is built."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from milforge.graph.build import build_adjacency, check_names
from milforge.graph.csr import block_diagonal
from milforge.graph.stride import radius_from_tiles

RADIUS_UNITS = ("tiles", "coords")


@dataclass(frozen=True)
class AdjacencyBuilder:
    """Builds the adjacency of one bag after the other with the same options.

    Beside what `build_adjacency` does, which explains the other options: the radius may be given
    in tiles, and a bag of no more than `k` instances links each with all others.

    Args:
        method: `radius`, `knn`, `grid`, `chain` or `feature_knn`.
        radius: for `radius`; None takes sqrt(2) strides, the 8 neighbours of a tile.
        radius_unit: `tiles`, scaled by the stride found in the coords of each bag, or `coords`,
            the units of the coords, which irregular points want.
        k: number of neighbours for `knn` and `feature_knn`.
        neighbours: neighbourhood for `grid`.
        weight: `binary`, `gaussian` or `cosine`.
        sigma: width of the gaussian; None takes the median distance of each bag.
        self_loops: whether to add the identity before normalising.
        normalize: `sym` or `rw`.
        cache: folder in which `milforge.data.GraphBags` keeps what is built for later runs; None
            keeps it in memory.

    Raises:
        ValueError: for a name that there is not, or a number out of its range.

    Example:
        >>> import torch
        >>> build = AdjacencyBuilder("radius", radius=1.0)
        >>> build(torch.tensor([[0, 0], [448, 0], [448, 448]])).values().shape
        torch.Size([4])
    """

    # A run goes on with another value of it.
    changes_nothing: ClassVar[tuple[str, ...]] = ("cache",)

    method: str = "radius"
    radius: float | None = None
    radius_unit: str = "tiles"
    k: int = 8
    neighbours: int = 8
    weight: str = "binary"
    sigma: float | None = None
    self_loops: bool = False
    normalize: str = "sym"
    cache: str | None = None

    def __post_init__(self) -> None:
        check_names(self.method, self.weight)
        if self.radius_unit not in RADIUS_UNITS:
            raise ValueError(
                f"expected radius_unit to be one of {', '.join(RADIUS_UNITS)}, got "
                f"{self.radius_unit!r}"
            )
        if self.normalize not in ("sym", "rw"):
            raise ValueError(f"expected normalize to be sym or rw, got {self.normalize!r}")
        if not (isinstance(self.k, int) and self.k >= 1):
            raise ValueError(f"expected k as a whole number of at least 1 neighbour, got {self.k}")
        if self.neighbours not in (4, 6, 8, 26):
            raise ValueError(
                "expected neighbours of 4 or 8 in the plane, 6 or 26 in space, got "
                f"{self.neighbours}"
            )
        for name, value in (("radius", self.radius), ("sigma", self.sigma)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"expected {name} above 0, or None, got {value}")

    @property
    def needs_coords(self) -> bool:
        """Whether there is no adjacency without coords."""
        return self.method in ("radius", "knn", "grid") or (
            self.method == "chain" and self.weight == "gaussian"
        )

    @property
    def needs_features(self) -> bool:
        """Whether the adjacency depends on the features."""
        return self.method == "feature_knn" or self.weight == "cosine"

    def __call__(
        self,
        coords: Tensor | None = None,
        features: Tensor | None = None,
        slide: Tensor | None = None,
    ) -> Tensor:
        """The adjacency of a bag.

        Args:
            coords: `(N, d)` numbers.
            features: `(N, ...)` floats; looked at only where `needs_features`.
            slide: `(N,)` which slide an instance is of, rising: each has a graph of its own, and no
                edge joins two. None: all are of one.

        Returns:
            Sparse CSR `(N, N)` float32, normalised.

        Raises:
            ValueError: as `build_adjacency` does.
        """
        if slide is not None and len(slide):
            sizes = torch.unique_consecutive(slide, return_counts=True)[1].tolist()
            rows = [
                [None] * len(sizes) if each is None else torch.split(each, sizes)
                for each in (coords, features)
            ]
            return block_diagonal([self(c, f) for c, f in zip(*rows, strict=True)])
        wanted = self.needs_features or coords is None  # if only to know how many there are
        vectors = features.flatten(1) if features is not None and wanted else None
        parts = (coords, vectors)
        size = max((len(part) for part in parts if part is not None), default=0)
        radius = self.radius
        if radius is not None and self.radius_unit == "tiles" and coords is not None and size > 1:
            radius = radius_from_tiles(coords, radius)
        return build_adjacency(
            coords,
            vectors,
            method=self.method,
            radius=radius,
            k=max(1, min(self.k, size - 1)),
            neighbours=self.neighbours,
            weight=self.weight,
            sigma=self.sigma,
            self_loops=self.self_loops,
            normalize=self.normalize,
        )
