r"""Dirichlet energy: how much values differ between linked instances.

With a symmetrically normalised adjacency `Â` of weights `a` and degrees `d`, and `L = I - Â`,

    E(U) = tr(Uᵀ L U) = 1/2 Σ_nm a_nm ‖u_n / √d_n - u_m / √d_m‖²

(arXiv:2006.13318; the Sm operator, arXiv:2410.03276, minimises it together with the distance to
what it smooths). Other normalisations are computed by the trace too; under the random walk
constants give 0, but nothing keeps the energy from being negative.
"""

import torch
from torch import Tensor

from milforge.functional.segment import segment_sum
from milforge.functional.sm import prepare


def dirichlet_energy(u: Tensor, adj: Tensor, ptr: Tensor) -> Tensor:
    """Dirichlet energy of each bag, `tr(U^T (I - Â) U)`.

    At least 0, up to rounding. An isolated instance (a 1 on the diagonal of `adj`) adds nothing,
    an empty bag has an energy of 0. Half-precision values are taken to float32. Differentiable
    in `u`.

    Args:
        u: `(N,)` or `(N, D)` float, the values of the instances.
        adj: sparse CSR `(N, N)` float, block diagonal, symmetrically normalised as
            `milforge.graph.build_adjacency` gives it. No gradient flows to it.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)`, of at least float32.

    Raises:
        ValueError: where shapes, layouts, dtypes or devices of `u` and `adj` do not fit each other.

    Example:
        >>> adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
        >>> dirichlet_energy(torch.tensor([3.0, 1.0]), adj, torch.tensor([0, 2]))
        tensor([4.])
    """
    return _energy(*prepare(u, adj), ptr)


def relative_dirichlet_energy(u: Tensor, adj: Tensor, ptr: Tensor) -> Tensor:
    """Dirichlet energy of each bag over the squares of its values, `E(U) / tr(U^T U)`.

    This Rayleigh quotient depends on neither scale nor width. It lies in [0, 2], up to rounding:
    0 where the values are as smooth as the graph allows, 1 on average where they are independent
    noise, 2 where neighbours have opposite values. Where all values are 0 it is 0.

    Args:
        u: `(N,)` or `(N, D)` float, the values of the instances.
        adj: sparse CSR `(N, N)` float, block diagonal, symmetrically normalised.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)`, of at least float32.

    Raises:
        ValueError: where shapes, layouts, dtypes or devices of `u` and `adj` do not fit each other.

    Example:
        >>> adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
        >>> relative_dirichlet_energy(torch.tensor([3.0, 1.0]), adj, torch.tensor([0, 2]))
        tensor([0.4000])
    """
    table, matrix = prepare(u, adj)
    squares = _inner(table, table, ptr)
    return _energy(table, matrix, ptr) / squares.where(squares != 0, 1.0)


def _energy(table: Tensor, matrix: Tensor, ptr: Tensor) -> Tensor:
    with torch.autocast(table.device.type, enabled=False):
        return _inner(table, torch.addmm(table, matrix, table, alpha=-1), ptr)


def _inner(u: Tensor, v: Tensor, ptr: Tensor) -> Tensor:
    """The inner product of the two tables of each bag."""
    rows = (u * v).sum(1, keepdim=True)
    # Added one by one: in float32 the rounding of a large bag would show.
    return segment_sum(rows.double(), ptr)[:, 0].to(u.dtype)
