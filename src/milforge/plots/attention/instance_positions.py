"""Where a figure draws the instances of a bag: on a grid, in a band, as dots."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from milforge.graph.stride import stride_of

MOST_CELLS = 4_000_000  # of any array that is drawn
PLAIN_CELLS = 10_000  # a grid of so few is seen tile by tile, however few tiles it holds
FEWEST_FILLED = 0.05  # of the cells of a larger grid: fewer are points that lie on it by chance
OFF_GRID = 0.05  # of a tile: how far from the grid a tile may lie
MOST_SLICES = 6


@dataclass(frozen=True, eq=False)
class Places:
    """Where a bag's instances are drawn, in tiles: `x` and `y` from 0 to `width - 1`.

    `tile` is the side of one in units of the coords, None where it has none: of instances in a
    band, or at one place. `origin` is where the first column and row begin in the coords, None of a
    volume too.
    """

    index: NDArray[np.int64]  # the instances drawn, those on top last
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    gridded: bool
    chain: bool
    notes: tuple[str, ...] = ()
    tile: float | None = None
    origin: NDArray[np.float64] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that hold all tiles."""
        return math.ceil(self.y.max()) + 1, math.ceil(self.x.max()) + 1


def find_places(points: NDArray[np.float64], attention: NDArray[np.float64]) -> Places:
    """Where each instance is drawn, those of most attention on top.

    Args:
        points: `(n, 2)` or `(n, 3)` coords.
        attention: `(n,)`, over all models.
    """
    index: NDArray[np.int64] = np.argsort(attention, kind="stable")
    axes = np.flatnonzero(np.ptp(points, axis=0))
    if len(axes) == 1:
        along = points[index][:, axes]
        tiles, _ = _in_tiles(along)
        # Tiles far apart would be too thin to see, and others would overlap.
        x = np.unique(along, return_inverse=True)[1].ravel() if tiles is None else tiles[:, 0]
        return Places(index, x.astype(np.float64), np.zeros(len(x)), gridded=True, chain=True)
    notes: tuple[str, ...] = ()
    if len(axes) == 3:
        index, plane, notes = _side_by_side(points, attention, index)
    else:
        plane = points[index][:, axes if len(axes) else [0, 1]]
    tiles, side = _in_tiles(plane)
    gridded = tiles is not None
    if tiles is None:
        side = _dot_size(plane)
        tiles = (plane - plane.min(axis=0)) / side
    return Places(
        index,
        tiles[:, 0],
        tiles[:, 1],
        gridded=gridded,
        chain=False,
        notes=notes,
        tile=side,
        origin=plane.min(axis=0) if axes.tolist() == [0, 1] else None,
    )


def _side_by_side(
    points: NDArray[np.float64], attention: NDArray[np.float64], index: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[str, ...]]:
    """The instances of the slices to draw, and their points in the plane, slice beside slice."""
    depths, slices = np.unique(points[:, 2], return_inverse=True)
    if len(depths) > max(MOST_SLICES, len(points) / 2):
        return index, points[index, :2], ("seen along the third axis",)
    most = np.argsort(-np.bincount(slices, attention), kind="stable")[:MOST_SLICES]
    chosen = np.sort(most)
    index = index[np.isin(slices[index], chosen)]
    plane, columns = points[index, :2], math.ceil(math.sqrt(len(chosen)))
    stride = stride_of(np.unique(points[:, :2], axis=0))
    extent = np.ptp(points[:, :2], axis=0)
    # A whole number of tiles from slice to slice keeps all of them on one grid.
    step = stride * (np.round(extent / stride) + 1 + np.ceil(0.05 * extent.max() / stride))
    slot = np.searchsorted(chosen, slices[index])
    plane = plane + step * np.stack([slot % columns, slot // columns], axis=1)
    note = f"{len(chosen)} of {len(depths)} slices shown"
    return index, plane, (note,)


def _in_tiles(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64] | None, float | None]:
    """The points in whole tiles from 0, None where they lie on no grid, or too thinly on one.

    And the side of a tile, None where all points are one.
    """
    points = points - points.min(axis=0)
    if not points.any():
        return points, None
    stride = float(stride_of(points))
    tiles = points / stride
    whole = np.round(tiles)
    cells = float(np.prod(whole.max(axis=0) + 1))
    fit = np.abs(tiles - whole).max() <= OFF_GRID
    seen = cells <= PLAIN_CELLS or FEWEST_FILLED * cells <= len(points)
    return whole if fit and seen and cells <= MOST_CELLS else None, stride


def _dot_size(points: NDArray[np.float64]) -> float:
    """Diameter of a dot: about the distance of neighbours, never too small to be seen."""
    apart = np.unique(points, axis=0)
    distances, _ = cKDTree(apart).query(apart, k=2)
    return float(max(1.2 * np.median(distances[:, 1]), np.ptp(points, axis=0).max() / 120))
