"""Coords or features to an adjacency."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from milforge.graph.csr import from_scipy
from milforge.graph.features import (
    feature_knn_pairs,
    pair_cosines,
    pair_distances,
    unit_vectors,
)
from milforge.graph.neighbours import (
    Pairs,
    Points,
    chain_pairs,
    grid_pairs,
    knn_pairs,
    radius_pairs,
)
from milforge.graph.normalise import check_normalisation, normalise_matrix
from milforge.graph.stride import as_points

METHODS = ("radius", "knn", "grid", "chain", "feature_knn")
WEIGHTS = ("binary", "gaussian", "cosine")
NO_EDGE = 1e-30  # a weight below is none: near float32's end it could vanish in one direction only


def build_adjacency(
    coords: Tensor | None = None,
    features: Tensor | None = None,
    *,
    method: str = "radius",
    radius: float | None = None,
    k: int = 8,
    neighbours: int = 8,
    weight: str = "binary",
    sigma: float | None = None,
    self_loops: bool = False,
    normalize: str | None = "sym",
) -> Tensor:
    """Adjacency of the instances of one bag, symmetric before a random-walk normalisation.

    The methods are:

    - `"radius"`: instances at most `radius` apart, in the units of the coords. None takes
      sqrt(2) strides (`grid_stride`), the 8 neighbours of a tile; `radius_from_tiles` converts
      others. At most 128 neighbours an instance in the mean.
    - `"knn"`: instances of which one is among the `k` nearest of the other; at equal distances
      the choice depends on the order of the instances.
    - `"grid"`: adjoining tiles, 4 or 8 `neighbours` in the plane, 6 or 26 in space; coords on any
      stride, with holes.
    - `"chain"`: each instance and the next, in the order given; with coords, along the one axis
      on which they vary. Gaps do not break a chain.
    - `"feature_knn"`: instances of which one is among the `k` of largest cosine to the other.
      Computed on the device of the features; coords are not used.

    The weights, of instances a distance d apart:

    - `"binary"`: 1.
    - `"gaussian"`: `exp(-d^2 / (2 sigma^2))`, d between coords, or with `"feature_knn"` between
      the features scaled to length 1; `sigma=None` takes the median d over the edges of this bag.
    - `"cosine"`: cosine of the features, clipped at 0.

    An edge whose weight is below 1e-30 is left out.

    Args:
        coords: `(N, d)` real numbers of any dtype, not all equal where N > 1.
        features: `(N, D)` floats; needed by `"feature_knn"` and `"cosine"`.
        method: see above.
        radius: see above; above 0.
        k: number of nearest neighbours, from 1 to N - 1.
        neighbours: neighbourhood of the grid.
        weight: see above.
        sigma: width of the gaussian, above 0.
        self_loops: adds the identity before normalising.
        normalize: `"sym"`, `"rw"` or None, see `normalize_adjacency`. Where normalised, an isolated
            instance has a 1 on the diagonal.

    Returns:
        Sparse CSR `(N, N)` float32 on the CPU, with int64 indices and the columns sorted in each
        row. A single instance gives `[[1.]]` where normalised or with self-loops.

    Raises:
        ValueError: where an argument is not as described, coords or features hold NaN or
            infinity, they differ in length, N is 0, or no edge results where N > 1.

    Example:
        >>> coords = torch.tensor([[0, 0], [448, 0], [448, 448], [2240, 448]])
        >>> build_adjacency(coords, method="grid", neighbours=4).to_dense()
        tensor([[0.0000, 0.7071, 0.0000, 0.0000],
                [0.7071, 0.0000, 0.7071, 0.0000],
                [0.0000, 0.7071, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.0000, 1.0000]])
    """
    check_names(method, weight)
    check_normalisation(normalize)
    by_features = method == "feature_knn"
    size = _common_length(coords, features)
    points = None if coords is None or by_features else as_points(coords)
    unit = _unit_vectors(features, method, weight) if by_features or weight == "cosine" else None
    if points is None and method in ("radius", "knn", "grid"):
        raise ValueError(f"expected coords for method={method!r}, got None")
    if weight == "gaussian":
        _check_gaussian(sigma, by_features or points is not None)

    if size == 1:
        pairs = np.empty((0, 2), dtype=np.int64)
    elif by_features and unit is not None:
        pairs = feature_knn_pairs(unit, k)
    else:
        pairs = _pairs(points, size, method, radius, k, neighbours)
    values = np.ones(len(pairs))
    if len(pairs) and weight == "cosine" and unit is not None:
        values = pair_cosines(unit, pairs)
    elif len(pairs) and weight == "gaussian":
        values = _gaussian(_distances(points, unit, pairs), sigma)
    kept = values >= NO_EDGE
    if size > 1 and not kept.any():
        raise ValueError(
            f"expected at least one edge, got none: the {weight} weights of all {len(pairs)} edges "
            "are 0: use weight='binary', or give a larger sigma where they are gaussian"
        )
    if not kept.all():
        pairs, values = pairs[kept], values[kept]
    half = sparse.coo_array((values, (pairs[:, 0], pairs[:, 1])), shape=(size, size)).tocsr()
    matrix = half + half.T
    if self_loops:
        matrix = matrix + sparse.eye_array(size, format="csr")
    if normalize is not None:
        matrix = normalise_matrix(matrix, normalize)
    return from_scipy(matrix.tocsr(), torch.float32)


def check_names(method: str, weight: str) -> None:
    """Raises a ValueError where there is no such method or weight."""
    for name, given, known in (("method", method, METHODS), ("weight", weight, WEIGHTS)):
        if given not in known:
            raise ValueError(f"expected {name} to be one of {', '.join(known)}, got {given!r}")


def _common_length(coords: Tensor | None, features: Tensor | None) -> int:
    """N, which must be that of the coords and of the features."""
    lengths = {}
    for name, part in (("coords", coords), ("features", features)):
        if part is not None:
            if part.ndim != 2:
                raise ValueError(
                    f"expected {name} of shape (N, d), one row an instance, got {tuple(part.shape)}"
                )
            lengths[name] = len(part)
    if not lengths:
        raise ValueError("expected coords or features, got neither")
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"expected coords and features of the same instances, got {lengths['coords']} coords "
            f"and {lengths['features']} features"
        )
    size = next(iter(lengths.values()))
    if size == 0:
        raise ValueError("expected at least one instance, got none: leave out empty bags")
    return size


def _unit_vectors(features: Tensor | None, method: str, weight: str) -> Tensor:
    if features is None:
        raise ValueError(
            f"expected features for method={method!r} with weight={weight!r}, got None"
        )
    return unit_vectors(features)


def _check_gaussian(sigma: float | None, has_distances: bool) -> None:
    if not has_distances:
        raise ValueError("expected coords for weight='gaussian', got None: use weight='binary'")
    if sigma is not None and not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"expected sigma above 0, or None for the median distance, got {sigma}")


def _pairs(
    points: Points | None,
    size: int,
    method: str,
    radius: float | None,
    k: int,
    neighbours: int,
) -> Pairs:
    """The edges of the methods that go by position or order."""
    if points is None or method == "chain":
        return chain_pairs(points, size)
    if method == "radius":
        return radius_pairs(points, radius)
    if method == "knn":
        return knn_pairs(points, k)
    return grid_pairs(points, neighbours)


def _distances(points: Points | None, unit: Tensor | None, pairs: Pairs) -> NDArray[np.float64]:
    if points is None and unit is not None:
        return pair_distances(unit, pairs)
    assert points is not None
    one, other = points[pairs.T]
    distances: NDArray[np.float64] = np.linalg.norm(one - other, axis=1)
    return distances


def _gaussian(distances: NDArray[np.float64], sigma: float | None) -> NDArray[np.float64]:
    if sigma is None:
        sigma = float(np.median(distances))
        if sigma == 0:
            raise ValueError(
                "expected neighbours that are apart, got a median distance of 0 over "
                f"{len(distances)} edges: give sigma, or use weight='binary'"
            )
    values: NDArray[np.float64] = np.exp(-0.5 * (distances / sigma) ** 2)
    return values
