"""What the operators rely on in an adjacency, checked once, where it enters."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from milforge.graph.csr import REMEDY, to_scipy

ASYMMETRY = 1e-3  # of a weight: what float32 rounding adds up to along a path
EXCESS = 1e-3  # of the spectral radius: harmless to the operators
MAX_STEPS = 1000

Values = NDArray[np.float64]


def check_adjacency(adj: Tensor, ptr: Tensor | None = None) -> None:
    """Checks that smoothing over the adjacency converges and stays within each bag.

    - The weights are finite and not negative.
    - A is symmetric, or similar to a symmetric matrix (`rw` of a symmetric graph): there are
      `s_n > 0` with `s_n a_nm = s_m a_mn`. Its spectrum is then real.
    - Its spectral radius is at most 1 (+ 1e-3). Row sums do not show it: a valid grid has 1.21. By
      Collatz and Wielandt, `x > 0` with `A x <= c x` proves that it is at most c. Such an x is
      looked for by conjugate gradients on `(c I - B) x = b`, B the symmetric form of A and b > 0:
      the solution is the sum of `B^k b / c^(k + 1)`, what power iterations tend to, and
      positive where the radius is below c. A direction of negative curvature proves the opposite.
    - With `ptr`, no weight links two bags.

    Time and memory are linear in the number of weights; a tensor on a GPU is copied to the host.

    Args:
        adj: sparse CSR `(N, N)`, float32 or float64.
        ptr: `(B + 1,)` integers, the bag boundaries.

    Raises:
        ValueError: where one of these does not hold; the message names the remedy.

    Example:
        >>> check_adjacency(torch.full((3, 3), 1 / 3).to_sparse_csr())
        >>> check_adjacency(torch.ones(3, 3).to_sparse_csr())
        Traceback (most recent call last):
            ...
        ValueError: expected a spectral radius of at most 1, got 3: normalise the adjacency with \
normalize_adjacency, or make one with build_adjacency(..., normalize="sym")
    """
    matrix = to_scipy(adj)
    _check_indices(adj)
    if ptr is not None:
        _check_blocks(matrix, ptr)
    matrix = matrix.astype(np.float64)
    matrix.eliminate_zeros()
    symmetric, start = _symmetric_form(matrix)
    _check_spectral_radius(symmetric, start)


def _check_indices(adj: Tensor) -> None:
    try:
        torch.sparse_csr_tensor(
            adj.crow_indices(), adj.col_indices(), adj.values(), adj.shape, check_invariants=True
        )
    except RuntimeError as error:
        raise ValueError(
            f"expected valid CSR indices, the columns of each row sorted and distinct, got {error}"
            f": {REMEDY}"
        ) from error


def _check_blocks(matrix: Any, ptr: Tensor) -> None:
    size = matrix.shape[0]
    bounds = ptr.detach().cpu().numpy()
    if (
        bounds.ndim != 1
        or len(bounds) == 0
        or bounds.dtype.kind != "i"
        or (bounds[0], bounds[-1]) != (0, size)
        or (np.diff(bounds) < 0).any()
    ):
        raise ValueError(
            f"expected ptr of B + 1 integers that rise from 0 to N = {size}, got {ptr.dtype} of "
            f"shape {tuple(ptr.shape)}: give the ptr of the batch that holds the adjacency"
        )
    bags = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    rows = np.repeat(np.arange(size), np.diff(matrix.indptr))
    across = bags[rows] != bags[matrix.indices]
    if across.any():
        first = int(across.argmax())
        row, column = rows[first], matrix.indices[first]
        raise ValueError(
            f"expected an adjacency that is block diagonal over the bags, got {across.sum()} "
            f"weights between bags, as from instance {row} of bag {bags[row]} to instance {column} "
            f"of bag {bags[column]}: build one adjacency per bag and let collate_bags join them"
        )


def _symmetric_form(matrix: Any) -> tuple[Any, Values]:
    """`B = S^1/2 A S^-1/2` with `S A` symmetric, and the positive vector `S^1/2 1`.

    The vector is B's eigenvector of the eigenvalue 1 where the rows of A sum to 1.
    """
    transposed = matrix.T.tocsr()
    transposed.sort_indices()
    size = matrix.shape[0]
    rows = np.repeat(np.arange(size), np.diff(matrix.indptr))
    columns = matrix.indices
    if not np.array_equal(matrix.indptr, transposed.indptr) or not np.array_equal(
        columns, transposed.indices
    ):
        one_way = (matrix > 0).astype(np.int8) - (transposed > 0).astype(np.int8)
        row, column = (int(ends[0]) for ends in (one_way > 0).nonzero())
        raise ValueError(
            f"expected a symmetric adjacency, or a random walk on one, got a weight from instance "
            f"{row} to {column} and none back: link both ways (A + A^T) and normalise, or {REMEDY}"
        )
    ratios = np.log(matrix.data) - np.log(transposed.data)
    log_scale = np.zeros(size)
    if ratios.size and np.abs(ratios).max() > ASYMMETRY:
        log_scale = _log_scales(matrix, rows, ratios)
        mismatch = np.abs(log_scale[columns] - log_scale[rows] - ratios)
        if mismatch.max() > ASYMMETRY:
            row, column = rows[mismatch.argmax()], columns[mismatch.argmax()]
            raise ValueError(
                "expected a symmetric adjacency, or a random walk on one, got weights that no "
                f"scaling of the rows makes symmetric, as those between instances {row} and "
                f"{column}: normalise a symmetric graph with normalize_adjacency, or {REMEDY}"
            )
    values = np.sqrt(matrix.data) * np.sqrt(transposed.data)
    symmetric = sparse.csr_array((values, columns, matrix.indptr), shape=matrix.shape)
    half = 0.5 * log_scale
    return symmetric, np.exp(np.maximum(half - half.max(initial=0.0), -100.0))


def _log_scales(matrix: Any, rows: NDArray[np.int64], ratios: Values) -> Values:
    """`log s` of each node: the log ratios `log(a_nm / a_mn)` summed along a spanning forest.

    A node added as N is linked to one node of each component, which makes a tree of the forest.
    """
    size, columns = matrix.shape[0], matrix.indices
    _, component = csgraph.connected_components(matrix, directed=False)
    _, entries = np.unique(component, return_index=True)
    indices = np.concatenate([columns, entries])
    indptr = np.append(matrix.indptr, len(indices))
    rooted = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(size + 1, size + 1))
    _, parents = csgraph.breadth_first_order(rooted, size, directed=True)
    parents = parents.astype(np.int64)
    parents[size] = size

    nodes = np.flatnonzero(parents[:size] < size)
    keys = rows * size + columns  # sorted, as the entries of CSR are
    log_scale = np.zeros(size + 1)
    log_scale[nodes] = ratios[np.searchsorted(keys, parents[nodes] * size + nodes)]
    # Sums over the paths to the root by doubling: log2(depth) rounds.
    while (parents != size).any():
        log_scale += log_scale[parents]
        parents = parents[parents]
    return log_scale[:size]


def _check_spectral_radius(symmetric: Any, start: Values) -> None:
    """Raises where no positive vector proves that the spectral radius is at most 1 + EXCESS."""
    bound = 1.0 + EXCESS
    x = np.zeros_like(start)
    rest = start.copy()  # start - (bound I - B) x
    direction = rest.copy()
    for _ in range(MAX_STEPS):
        if (rest < start).all() and (x > 0).all():
            return  # (bound I - B) x = start - rest > 0
        product = bound * direction - symmetric @ direction
        curvature = _dot(direction, product)
        if not curvature > 0:
            break
        norm = _dot(rest, rest)
        step = norm / curvature
        x += step * direction
        rest -= step * product
        direction = rest + _dot(rest, rest) / norm * direction
    radius = _dot(direction, symmetric @ direction) / _dot(direction, direction)
    raise ValueError(
        f"expected a spectral radius of at most 1, got {radius:.4g}: normalise the adjacency "
        f"with normalize_adjacency, or {REMEDY}"
    )


def _dot(one: Values, other: Values) -> float:
    """Inner product without BLAS, whose threads, beside a busy process, take ten times as long."""
    return float((one * other).sum())
