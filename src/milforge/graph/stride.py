"""The stride of tile coordinates.

Slides store their tiles in level-0 pixels, so a tile's width in coords differs from slide to
slide: 448 where a 40x slide was tiled at 20x and 224 pixels. Here it is read off the coords.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROUNDING = 1e-6  # of the extent: gaps that differ by less are one gap (float32 coords)
COMMON = 1 / 2  # of the number of the most frequent gaps: a gap met so often is common
RARE = 1 / 8  # likewise: below it a gap is chance
FINEST = 4  # strides that the common gap of a few tiles with many holes may span


def as_points(coords: Tensor) -> NDArray[np.float64]:
    """Coords as `(N, d)` float64, after checking that a graph can be laid over them.

    Raises:
        ValueError: where they are not `(N, d)` with N and d of at least 1, hold NaN, infinity or
            complex numbers, or are all equal.
    """
    if coords.ndim != 2 or 0 in coords.shape or coords.is_complex() or coords.dtype == torch.bool:
        raise ValueError(
            "expected coords of shape (N, d), real numbers, with at least one instance and one "
            f"axis, got {tuple(coords.shape)} of {coords.dtype}"
        )
    points: NDArray[np.float64] = coords.detach().cpu().to(torch.float64).numpy()
    if not np.isfinite(points).all():
        bad = (~np.isfinite(points)).any(axis=1)
        raise ValueError(
            f"expected finite coords, got {bad.sum()} of {len(points)} instances with NaN or "
            "infinity: remove these instances, or build the graph from features "
            "(method='feature_knn')"
        )
    if len(points) > 1 and (points == points[0]).all():
        raise ValueError(
            f"expected coords that differ, got {len(points)} instances all at "
            f"{tuple(points[0].tolist())}: give their positions, or build the graph from features "
            "(method='feature_knn')"
        )
    return points


def grid_stride(coords: Tensor) -> float:
    """Distance of neighbouring tiles, in the units of the coords.

    It is the smallest common gap along the axes between neighbouring instances of a row or
    column; common is what is met at least half as often as the gap met most often. Gaps between
    pieces of tissue that were tiled from corners of their own are rare, and do no harm. Where
    no two instances share a row or column it is the smallest gap between the values of an axis.
    A few tiles with many holes need have few beside them in a row. So a gap down to a quarter of
    the common one is taken instead where it puts all instances on a grid, if it is met an eighth
    as often as the most frequent one, or if the common one is met by less than half as many as
    there are instances. For points that lie on no grid the number means nothing.

    Args:
        coords: `(N, d)` numbers, at least 2 instances, not all equal.

    Raises:
        ValueError: where `coords` is not as described or holds NaN.

    Example:
        >>> grid_stride(torch.tensor([[0, 0], [448, 0], [448, 448], [1792, 448]]))
        448.0
    """
    points = as_points(coords)
    if len(points) < 2:
        raise ValueError("expected coords of at least 2 instances to find a stride, got 1")
    return stride_of(points)


def radius_from_tiles(coords: Tensor, tiles: float) -> float:
    """A radius in tiles in the units of the coords, as `build_adjacency` takes it.

    Args:
        coords: `(N, d)` tile coordinates, at least 2 instances, not all equal.
        tiles: the radius in tiles; sqrt(2) reaches the 8 neighbours of a tile in the plane.

    Raises:
        ValueError: where `tiles` is not above 0, or `grid_stride` finds no stride.

    Example:
        >>> radius_from_tiles(torch.tensor([[0, 0], [448, 0], [448, 448]]), 1.5)
        672.0
    """
    if not (tiles > 0 and math.isfinite(tiles)):
        raise ValueError(f"expected a radius in tiles above 0, got {tiles}")
    return tiles * grid_stride(coords)


def stride_of(points: NDArray[np.float64]) -> float:
    """`grid_stride` of checked coords, one stride for all axes."""
    return _stride_along(points, range(points.shape[1]))


def strides_by_axis(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A stride `(d,)` for each axis of checked coords; 1 for an axis on which they do not vary."""
    strides = np.ones(points.shape[1])
    for axis in np.flatnonzero(np.ptp(points, axis=0)):
        strides[axis] = _stride_along(points, [int(axis)])
    return strides


def _stride_along(points: NDArray[np.float64], axes: Sequence[int]) -> float:
    tolerance = ROUNDING * float(np.ptp(points, axis=0).max())
    gaps = np.concatenate([_gaps_on_lines(points, axis) for axis in axes])
    gaps = gaps[gaps > tolerance]
    steps = np.concatenate([np.diff(np.unique(points[:, axis])) for axis in axes])
    finest = float(steps[steps > tolerance].min(initial=np.inf))
    if not len(gaps):
        return finest
    common, count = _smallest_of_share(gaps, COMMON, tolerance)
    rare, _ = _smallest_of_share(gaps, RARE, tolerance)
    for finer in (rare, finest if 2 * count < len(points) else rare):
        if common / FINEST <= finer < common and _on_grid(points[:, axes], finer, tolerance):
            return finer
    return common


def _on_grid(points: NDArray[np.float64], stride: float, tolerance: float) -> bool:
    position = (points - points.min(axis=0)) / stride
    return bool(np.abs(position - np.rint(position)).max() * stride <= tolerance)


def _gaps_on_lines(points: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Gaps along the axis between neighbours that agree in every other coordinate."""
    others = np.delete(points, axis, axis=1)
    order = np.lexsort((points[:, axis], *others.T))
    same_line = (others[order[1:]] == others[order[:-1]]).all(axis=1)
    gaps: NDArray[np.float64] = np.diff(points[order, axis])[same_line]
    return gaps


def _smallest_of_share(
    gaps: NDArray[np.float64], share: float, tolerance: float
) -> tuple[float, int]:
    """Mean and number of the smallest gaps that are that share of those that agree most often."""
    gaps = np.sort(gaps)
    starts = np.flatnonzero(np.diff(gaps, prepend=-np.inf) > tolerance)
    sizes = np.diff(starts, append=len(gaps))
    first = int((sizes >= share * sizes.max()).argmax())
    return float(gaps[starts[first] :][: sizes[first]].mean()), int(sizes[first])
