"""Who is a neighbour of whom: positions to pairs.

Every function gives the undirected edges as `(E, 2)` int64 pairs of instances, the smaller number
first, each pair once, in no order.
"""

import math
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from milforge.graph.stride import radius_of_tiles, stride_of, strides_by_axis

Points = NDArray[np.float64]
Pairs = NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float64)

MAX_NEIGHBOURS = 128  # in the mean over a bag: more is hardly local, and memory for N = 100,000
ROUNDING = 1e-6  # of the radius: sqrt(2) * 448 must reach the diagonal neighbour
FLOAT32 = 2.0**-22  # of the largest coord: the rounding of a difference of two
OFF_GRID = 0.1  # of the stride

# The neighbourhoods of a tile by number of axes: those that share a face, and all.
NEIGHBOURHOODS = {2: (4, 8), 3: (6, 26)}


def radius_pairs(points: Points, radius: float | None) -> Pairs:
    """All pairs at a distance of at most the radius; None takes sqrt(2) strides.

    Raises:
        ValueError: where the radius is not above 0, links nothing, or links more than
            `MAX_NEIGHBOURS` a node in the mean.
    """
    if radius is None:
        radius = radius_of_tiles(points, math.sqrt(2))
    if not (radius > 0 and math.isfinite(radius)):
        raise ValueError(f"expected a radius above 0, got {radius}")
    # In float32 a distance of large coords is no better known than the coords themselves.
    reach = radius * (1 + ROUNDING) + FLOAT32 * float(np.abs(points).max())
    # A balanced tree takes longer to build than it saves.
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    bound = MAX_NEIGHBOURS * len(points)
    if _most_pairs_possible(points, reach) > bound:
        count = int(tree.count_neighbors(tree, reach)) - len(points)
        if count > bound:
            raise ValueError(
                f"expected a radius that links at most {MAX_NEIGHBOURS} neighbours an instance, "
                f"{bound} in all, got {count} within radius {radius:g} of {len(points)} instances "
                f"(the stride found in the coords is {stride_of(points):g}): give a smaller "
                "radius, or method='knn'"
            )
    pairs: Pairs = tree.query_pairs(reach, output_type="ndarray").astype(np.int64)
    if not len(pairs):
        raise ValueError(
            f"expected at least one edge, got none: no two of {len(points)} instances lie within "
            f"radius {radius:g} of each other, and the stride found in the coords is "
            f"{stride_of(points):g}: give a radius in the units of the coords "
            "(radius_from_tiles converts), or method='knn'"
        )
    return pairs


def _most_pairs_possible(points: Points, reach: float) -> float:
    """Upper bound of the ordered pairs within reach, in a tenth of the time that counting takes.

    With n_c points in the cubes of side `reach`, partners lie in the 3^d cubes around; the sum of
    n_c n_c' over cubes at one offset is at most the sum of n_c^2 (Cauchy-Schwarz).
    """
    cells = np.floor((points - points.min(axis=0)) / reach)
    # One number a cube; where float64 cannot tell two cubes apart the bound is only larger.
    keys = np.sort(cells @ _places(cells.max(axis=0) + 1))
    starts = np.flatnonzero(np.diff(keys, prepend=-1.0))
    sizes = np.diff(starts, append=len(keys)).astype(np.float64)
    return float(3.0 ** points.shape[1] * (sizes**2).sum())


def _places(extent: NDArray[Number]) -> NDArray[Number]:
    """Place values with which a position within the extent becomes one number."""
    return np.append(np.cumprod(extent[:0:-1])[::-1], extent.dtype.type(1))


def knn_pairs(points: Points, k: int) -> Pairs:
    """Pairs of which one is among the k nearest of the other.

    Raises:
        ValueError: where k is not in 1 to N - 1.
    """
    check_k(k, len(points))
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    # As many threads as torch takes: in a worker of a DataLoader that is one.
    _, found = tree.query(points, k=k + 1, workers=torch.get_num_threads())
    numbers = np.arange(len(points))
    if (found[:, 0] == numbers).all():
        return union(found[:, 1:])
    # Others lie at the same place, and an instance is not the first that it finds, or not found.
    itself = found == numbers[:, None]
    itself[:, -1] |= ~itself.any(axis=1)
    return union(found[~itself].reshape(len(points), k))


def check_k(k: int, size: int) -> None:
    """Raises a ValueError where k is not in 1 to `size` - 1."""
    if not 1 <= k < size:
        raise ValueError(
            f"expected k from 1 to N - 1 = {size - 1} neighbours of {size} instances, got {k}: "
            "give another k, or leave out bags as small as that"
        )


def union(found: NDArray[np.int64]) -> Pairs:
    """The neighbours `(N, k)` that each instance found, as pairs."""
    size, k = found.shape
    one, other = np.repeat(np.arange(size), k), found.ravel()
    # Both ends in one number: sorting numbers takes a tenth of the time of sorting rows.
    bits = size.bit_length()
    keys = np.sort(np.minimum(one, other) << bits | np.maximum(one, other))
    keys = keys[np.diff(keys, prepend=-1) > 0]
    return np.stack([keys >> bits, keys & ((1 << bits) - 1)], axis=1)


def grid_pairs(points: Points, neighbours: int) -> Pairs:
    """Pairs of adjoining tiles; holes link nothing.

    In the plane both axes have one stride, `grid_stride`. In space each axis has a stride of its
    own, since slices are seldom as far apart as tiles are wide.

    Raises:
        ValueError: where the coords are not 2-D or 3-D or lie on no grid, two instances lie on
            one tile, there is no such neighbourhood, or no two tiles adjoin.
    """
    size, dim = points.shape
    if dim not in NEIGHBOURHOODS:
        raise ValueError(
            f"expected coords of 2 or 3 axes for method='grid', got {dim}: use method='radius'"
        )
    if neighbours not in NEIGHBOURHOODS[dim]:
        faces, full = NEIGHBOURHOODS[dim]
        raise ValueError(
            f"expected neighbours={faces} or {full} on a grid of {dim} axes, got {neighbours}"
        )
    stride = stride_of(points) if dim == 2 else strides_by_axis(points)
    tiles = _tile_indices(points, stride)
    # One number a tile. The empty border of one tile keeps a row's end from the next row's start.
    place = _places(tiles.max(axis=0) + 3)
    keys = tiles @ place
    order = np.argsort(keys)
    keys = keys[order]
    if (twice := np.flatnonzero(keys[1:] == keys[:-1])).size:
        one, other = order[twice[0]], order[twice[0] + 1]
        raise ValueError(
            f"expected one instance a tile, got instances {one} and {other} both at "
            f"{tuple(points[one].tolist())}: remove one, or use method='radius'"
        )
    found = []
    for step in _half_neighbourhood(dim, neighbours):
        wanted = keys + step @ place
        position = np.searchsorted(keys, wanted)
        hit = keys[np.minimum(position, size - 1)] == wanted
        found.append(np.stack([order[hit], order[position[hit]]], axis=1))
    pairs: Pairs = np.sort(np.concatenate(found), axis=1)
    if not len(pairs):
        raise ValueError(
            f"expected at least one edge, got none: no two of {size} tiles adjoin at the stride "
            f"found in the coords, {_show(stride)}: use method='radius' with a radius of your own, "
            "or method='knn'"
        )
    return pairs


def _half_neighbourhood(dim: int, neighbours: int) -> NDArray[np.int64]:
    """The steps to a tile's neighbours, one of each two that are opposite."""
    steps = np.array([step for step in product((-1, 0, 1), repeat=dim) if step > (0,) * dim])
    faces = neighbours == NEIGHBOURHOODS[dim][0]
    return steps[np.abs(steps).sum(axis=1) == 1] if faces else steps


def _tile_indices(points: Points, stride: float | Points) -> NDArray[np.int64]:
    """Coords as tile numbers from 0, checked to be near whole ones."""
    position = (points - points.min(axis=0)) / stride
    tiles = np.rint(position)
    off = np.abs(position - tiles).max(axis=1)
    if off.max() > OFF_GRID or np.prod(tiles.max(axis=0) + 3) > 2**62:
        worst = int(off.argmax())
        raise ValueError(
            f"expected coords on a grid of the stride found in them, {_show(stride)}, got "
            f"instance {worst} at {tuple(points[worst].tolist())} beside the grid that starts at "
            f"{tuple(points.min(axis=0).tolist())}: use method='radius' (pieces of tissue may "
            "each be tiled from a corner of their own)"
        )
    numbers: NDArray[np.int64] = tiles.astype(np.int64)
    return numbers


def _show(stride: float | Points) -> str:
    return " x ".join(f"{number:g}" for number in np.atleast_1d(stride))


def chain_pairs(points: Points | None, size: int) -> Pairs:
    """Each instance and the next: in the order given, or along the one axis on which coords vary.

    Raises:
        ValueError: where coords vary on several axes, or two instances lie at one place.
    """
    order = np.arange(size)
    if points is not None:
        axes = np.flatnonzero(np.ptp(points, axis=0))
        if len(axes) != 1:
            raise ValueError(
                "expected coords that vary along one axis for method='chain', got coords that "
                f"vary along axes {axes.tolist()}: order the instances and leave out coords"
            )
        along = points[:, axes[0]]
        order = np.argsort(along)
        if (twice := np.flatnonzero(np.diff(along[order]) == 0)).size:
            one, other = order[twice[0]], order[twice[0] + 1]
            raise ValueError(
                f"expected one instance a position for method='chain', got instances {one} and "
                f"{other} both at {along[one]:g}: order the instances and leave out coords"
            )
    return np.sort(np.stack([order[:-1], order[1:]], axis=1), axis=1)
