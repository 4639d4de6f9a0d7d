"""Degrees: the normalisation of an adjacency, and the instances without neighbours."""

from typing import Any

import numpy as np
from scipy import sparse
from torch import Tensor

from milforge.graph.csr import from_scipy, to_scipy

NORMALISATIONS = ("sym", "rw", None)


def check_normalisation(how: str | None) -> None:
    """Raises a ValueError where `how` is none of `NORMALISATIONS`."""
    if how not in NORMALISATIONS:
        raise ValueError(f"expected a normalisation of 'sym', 'rw' or None, got {how!r}")


def normalise_matrix(matrix: Any, how: str) -> Any:
    """`normalize_adjacency` on a SciPy CSR matrix of float64 without stored zeros, in place."""
    degree = matrix.sum(axis=1)
    alone = degree == 0
    degree[alone] = 1.0
    counts = np.diff(matrix.indptr)
    if how == "sym":
        scale = degree**-0.5
        # The product of the two scales first: it rounds alike in both directions of an edge.
        matrix.data *= np.repeat(scale, counts) * scale[matrix.indices]
    else:
        matrix.data /= np.repeat(degree, counts)
    return matrix + sparse.diags_array(alone.astype(np.float64)) if alone.any() else matrix


def normalize_adjacency(adj: Tensor, how: str | None = "sym") -> Tensor:
    """Normalises an adjacency by its degrees `d_n = sum_m a_nm`.

    `"sym"` gives `D^-1/2 A D^-1/2`, `"rw"` (random walk) `D^-1 A`; both have a spectral radius of
    1. Where a degree is 0 the result has a 1 on its diagonal, so that an isolated instance keeps
    its value when it is smoothed.

    Args:
        adj: sparse CSR `(N, N)`, float32 or float64, symmetric, weights of at least 0.
        how: `"sym"`, `"rw"`, or None, which gives `adj` back.

    Returns:
        Sparse CSR `(N, N)` of the dtype and on the device of `adj`, columns sorted in each row;
        weights of 0 are not stored.

    Raises:
        ValueError: where `how` is unknown, or `adj` is not as described (symmetry is left to
            `check_adjacency`).

    Example:
        >>> import torch
        >>> adj = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).to_sparse_csr()
        >>> normalize_adjacency(adj).to_dense()
        tensor([[0., 1., 0.],
                [1., 0., 0.],
                [0., 0., 1.]])
    """
    check_normalisation(how)
    matrix = to_scipy(adj)
    if how is None:
        return adj
    matrix = matrix.astype(np.float64)  # a copy
    matrix.eliminate_zeros()
    return from_scipy(normalise_matrix(matrix, how), adj.dtype).to(adj.device)


def count_isolated(adj: Tensor) -> int:
    """Number of instances without a neighbour: the rows with no weight off the diagonal.

    Args:
        adj: sparse CSR `(N, N)`, float32 or float64, normalised or not.

    Raises:
        ValueError: where `adj` is not as described.

    Example:
        >>> import torch
        >>> count_isolated(torch.eye(3).to_sparse_csr())
        3
    """
    matrix = to_scipy(adj).tocoo()
    linked = matrix.row[(matrix.row != matrix.col) & (matrix.data != 0)]
    return int(matrix.shape[0] - len(np.unique(linked)))
