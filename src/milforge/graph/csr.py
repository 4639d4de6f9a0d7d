"""Between sparse CSR tensors and SciPy's matrices, which share their memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

# Creating a first CSR tensor warns; this module has done so, silently.
import milforge.functional  # noqa: F401

REMEDY = 'make one with build_adjacency(..., normalize="sym")'


def to_scipy(adj: Tensor) -> Any:
    """The adjacency as a SciPy CSR matrix, after checking that it can be one.

    Raises:
        ValueError: where it is no square sparse CSR tensor of float32 or float64, or where it
            holds values that are negative or not finite.
    """
    if not isinstance(adj, Tensor) or adj.layout != torch.sparse_csr:
        got = str(adj.layout) if isinstance(adj, Tensor) else type(adj).__name__
        raise ValueError(f"expected the adjacency as a sparse CSR tensor, got {got}: {REMEDY}")
    if adj.ndim != 2 or adj.shape[0] != adj.shape[1]:
        raise ValueError(
            f"expected a square adjacency of shape (N, N), got {tuple(adj.shape)}: {REMEDY}"
        )
    if adj.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"expected an adjacency of float32 or float64, got {adj.dtype}: convert it with "
            "adj.to(torch.float32)"
        )
    values = adj.values().detach().cpu().numpy()
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(f"expected finite weights, got {bad} of NaN or infinity: {REMEDY}")
    if values.size and values.min() < 0:
        raise ValueError(
            f"expected weights of at least 0, got {values.min():.6g}: clip them at 0, or {REMEDY}"
        )
    crow, columns = adj.crow_indices().cpu().numpy(), adj.col_indices().cpu().numpy()
    return sparse.csr_array((values, columns, crow), shape=tuple(adj.shape))


def from_scipy(matrix: Any, dtype: torch.dtype) -> Tensor:
    """A SciPy CSR matrix as a tensor on the CPU, its columns sorted in each row."""
    matrix.sort_indices()
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.data).to(dtype),
        matrix.shape,
        check_invariants=False,
    )


def block_diagonal(parts: Sequence[Tensor]) -> Tensor:
    """Sparse CSR tensors of one dtype along the diagonal of a larger one, in order.

    Args:
        parts: at least one, `(n, n)` each.

    Returns:
        `(N, N)` sparse CSR, N the sum of the n.

    Example:
        >>> block_diagonal([torch.eye(2).to_sparse_csr(), torch.eye(1).to_sparse_csr()]).shape
        torch.Size([3, 3])
    """
    starts = torch.tensor([0, *map(len, parts)]).cumsum(0)
    edges = torch.tensor([0, *(part.values().shape[0] for part in parts)]).cumsum(0)
    crow = [parts[0].crow_indices()[:1]]
    crow += [part.crow_indices()[1:] + edges[i] for i, part in enumerate(parts)]
    columns = torch.cat([part.col_indices() + starts[i] for i, part in enumerate(parts)])
    values = torch.cat([part.values() for part in parts])
    size = (int(starts[-1]), int(starts[-1]))
    return torch.sparse_csr_tensor(torch.cat(crow), columns, values, size, check_invariants=False)
