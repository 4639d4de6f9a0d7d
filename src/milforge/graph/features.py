"""Neighbours and distances in the space of features, measured by direction (cosine).

`N` instances of `D` features take `N^2 D` products. They are done chunk by chunk with topk, on the
device of the features: at D = 1,024 a KD-tree would look at every pair too, and one by one.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.graph.neighbours import Pairs, check_k, union

CHUNK = 2**23  # numbers of an intermediate table: 32 MiB in float32


def unit_vectors(features: Tensor) -> Tensor:
    """Features `(N, D)` scaled to length 1, in float32 or more; a row of zeros stays as it is.

    Raises:
        ValueError: where the features are not `(N, D)` floats or hold NaN or infinity.
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            "expected features of shape (N, D), floating point, got "
            f"{tuple(features.shape)} of {features.dtype}: build the graph from coords, or give "
            "the features of an encoder"
        )
    features = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    if not features.isfinite().all():
        bad = int((~features.isfinite()).any(dim=1).sum())
        raise ValueError(
            f"expected finite features, got {bad} of {len(features)} instances with NaN or "
            "infinity: remove these instances, or build the graph from coords with another weight"
        )
    # By the largest first: squares of 1e30 overflow float32.
    features = features / features.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    unit: Tensor = features / length.clamp(min=1e-30)
    return unit


def feature_knn_pairs(unit: Tensor, k: int) -> Pairs:
    """Pairs of which one is among the k of largest cosine to the other.

    Raises:
        ValueError: where k is not in 1 to N - 1.
    """
    size = len(unit)
    check_k(k, size)
    found = torch.empty(size, k, dtype=torch.int64, device=unit.device)
    rows = max(1, CHUNK // size)
    for start in range(0, size, rows):
        cosines = unit[start : start + rows] @ unit.T
        cosines.diagonal(start).fill_(-torch.inf)  # the instance itself
        found[start : start + rows] = cosines.topk(k, sorted=False).indices
    return union(found.cpu().numpy())


def pair_cosines(unit: Tensor, pairs: Pairs) -> NDArray[np.float64]:
    """Cosine of the two of each pair `(E,)`."""
    return _by_chunks(unit, pairs, lambda one, other: (one * other).sum(dim=1))


def pair_distances(unit: Tensor, pairs: Pairs) -> NDArray[np.float64]:
    """Distance `(E,)` of the unit vectors of each pair, from 0 to 2.

    From the difference: sqrt(2 - 2 cosine) loses the distance of near ones to rounding.
    """
    return _by_chunks(unit, pairs, lambda one, other: torch.linalg.vector_norm(one - other, dim=1))


def _by_chunks(
    unit: Tensor, pairs: Pairs, function: Callable[[Tensor, Tensor], Tensor]
) -> NDArray[np.float64]:
    ends = torch.from_numpy(pairs).to(unit.device)
    parts = [
        function(unit[chunk[:, 0]], unit[chunk[:, 1]])
        for chunk in torch.split(ends, max(1, CHUNK // unit.shape[1]))
    ]
    values: NDArray[np.float64] = torch.cat(parts).to("cpu", torch.float64).numpy()
    return values
