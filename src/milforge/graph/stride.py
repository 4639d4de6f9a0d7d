"""The stride of tile coordinates.

Slides store their tiles in level-0 pixels, so a tile's width in coords differs from slide to
slide: 448 where a 40x slide was tiled at 20x and 224 pixels. Here it is read off the coords.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

ROUNDING = 1e-6  # of the extent: gaps that differ by less are one gap (float32 coords)
SLACK = 0.01  # of a radius in tiles: coords are rounded to pixels, or microns to float32
ALIKE = 1.1  # the most by which the strides of the axes of a volume may differ
COMMON = 1 / 2  # of the number of the most frequent gaps: a gap met so often is common
RARE = 1 / 8  # the same of gaps: below it one is chance
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
    there are instances. In a handful of tiles that lie far apart no rule can be right always. For
    points that lie on no grid, or on one whose axes have strides of their own, the number means
    nothing.

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

    It is a hundredth longer than the number of strides, so that tiles at exactly that distance
    are reached however their coords were rounded.

    Args:
        coords: `(N, d)` tile coordinates, at least 2 instances, not all equal.
        tiles: the radius in tiles; sqrt(2) reaches the 8 neighbours of a tile in the plane.

    Raises:
        ValueError: where `tiles` is not above 0, `grid_stride` finds no stride, or in space the
            axes have strides of their own, which make a radius in tiles mean nothing.

    Example:
        >>> round(radius_from_tiles(torch.tensor([[0, 0], [448, 0], [448, 448]]), 1.5), 2)
        678.72
    """
    points = as_points(coords)
    if len(points) < 2:
        raise ValueError("expected coords of at least 2 instances to find a stride, got 1")
    return radius_of_tiles(points, tiles)


def radius_of_tiles(points: NDArray[np.float64], tiles: float) -> float:
    """`radius_from_tiles` of checked coords."""
    if not (tiles > 0 and math.isfinite(tiles)):
        raise ValueError(f"expected a radius in tiles above 0, got {tiles}")
    varying = np.flatnonzero(np.ptp(points, axis=0))
    if len(varying) > 2:
        strides = strides_by_axis(points)[varying]
        if strides.max() > ALIKE * strides.min():
            raise ValueError(
                "expected one stride on all axes for a radius in tiles, got "
                f"{' x '.join(f'{stride:g}' for stride in strides)}: give a radius in the units "
                "of the coords (radius_unit=coords), or use method='grid'"
            )
    return tiles * stride_of(points) * (1 + SLACK)


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
        fits = common / FINEST <= finer < common and _on_grid(points[:, axes], finer, tolerance)
        if fits and _adjoin(points, finer):
            return finer
    return common


def _adjoin(points: NDArray[np.float64], stride: float) -> bool:
    """Whether any two instances are neighbours on a grid of that stride, corner to corner too."""
    distances, _ = cKDTree(points).query(points, k=2)
    reach = math.sqrt(points.shape[1]) * stride * (1 + SLACK)
    return bool((distances[:, 1] <= reach).any())


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
