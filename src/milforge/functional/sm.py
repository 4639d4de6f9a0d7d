r"""The Sm operator: smoothing over a graph of the instances.

Sm (arXiv:2410.03276) pulls the values of linked instances together. With a normalised adjacency
`Â` and the Laplacian `L = I - Â`, the exact operator is `Sm(U) = (I + γ L)^-1 U`; the approximate
one takes `T` steps of `G_t = α Â G_(t-1) + (1 - α) U` from `G_0 = U`, which tends to the exact one
with `γ = α / (1 - α)`.

Both are polynomials `P(Â) U`. So the backward pass is the same polynomial in `Âᵀ`, nothing is
saved step by step, and memory is a few tables of the size of `U` for any number of steps.
`Â` must be similar to a symmetric matrix with spectrum in [-1, 1], as `milforge.graph` builds it;
neither values nor spectrum are checked here.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milforge.functional.segment import segment_index


def transpose(adj: Tensor) -> Tensor:
    """The transpose of a sparse CSR matrix, as CSR with sorted columns.

    Example:
        >>> adj = torch.tensor([[0.0, 2.0], [3.0, 4.0]]).to_sparse_csr()
        >>> transpose(adj).to_dense()
        tensor([[0., 3.],
                [2., 4.]])
    """
    crow, columns, values = adj.crow_indices(), adj.col_indices(), adj.values()
    if adj.device.type == "cpu":
        # SciPy counts where torch sorts: 3 ms against 130 for 800,000 entries. It is loaded by
        # the first backward pass, not by `import milforge.nn`.
        from scipy import sparse

        places = np.arange(len(values))
        flipped = sparse.csr_array((places, columns.numpy(), crow.numpy()), adj.shape).tocsc()
        order, rows, crow = map(torch.from_numpy, (flipped.data, flipped.indices, flipped.indptr))
    else:
        order = torch.argsort(columns, stable=True)
        rows = segment_index(crow, len(columns))[order]
        counts = torch.zeros(adj.shape[1], dtype=torch.int64, device=columns.device)
        counts.scatter_add_(0, columns.long(), torch.ones_like(columns, dtype=torch.int64))
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    size = (adj.shape[1], adj.shape[0])
    return torch.sparse_csr_tensor(crow, rows, values[order], size, check_invariants=False)


def chebyshev_degree(gamma: float, tolerance: float) -> int:
    """Steps after which Chebyshev iteration on `I + γ L` is exact to the tolerance.

    The spectrum of `I + γ L` lies in `[1, 1 + 2 γ]`, so with `κ = 1 + 2 γ` the error shrinks by
    `ρ = (√κ - 1) / (√κ + 1)` a step, and `2 ρ^n` bounds it after n.

    Raises:
        ValueError: where gamma is negative or not finite, as after training that diverged.

    Example:
        >>> chebyshev_degree(1.0, 1e-6), chebyshev_degree(9.0, 1e-6)
        (12, 32)
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(
            f"expected gamma = alpha / (1 - alpha) finite and at least 0, got {gamma}: where it "
            "was trained, lower the learning rate of alpha"
        )
    if gamma == 0:
        return 0
    rho = 2 * gamma / (math.sqrt(1 + 2 * gamma) + 1) ** 2  # without the cancellation in √κ - 1
    return math.ceil(math.log(tolerance / 2) / math.log(rho))


class _Approx(torch.autograd.Function):
    """`P(Â) U` with `P(x) = Σ_{k<T} (1 - α) α^k x^k + α^T x^T`."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, adj: Tensor, alpha: Tensor, num_steps: int) -> Tensor:
        ctx.save_for_backward(u if ctx.needs_input_grad[2] else None, adj, alpha)
        ctx.num_steps = num_steps
        return _steps(u, adj, alpha, num_steps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        u, adj, alpha = ctx.saved_tensors
        steps, adj_t = ctx.num_steps, transpose(adj)
        if u is None:
            return _steps(grad.contiguous(), adj_t, alpha, steps), None, None, None
        # <grad, Â^k U> = <(Â^T)^k grad, U>: the powers that make the gradient of U hold that of α.
        power = grad.clone(memory_format=torch.contiguous_format)
        # Not empty: deterministic algorithms fill that with NaN, which a backend that multiplies
        # by beta = 0 would keep.
        spare = torch.zeros_like(power)
        grad_u = (1 - alpha) * power
        grad_alpha = -torch.dot(power.flatten(), u.flatten())
        for k in range(1, steps + 1):
            # Into its own `out`, addmm copies nothing beforehand.
            torch.addmm(spare, adj_t, power, beta=0, out=spare)
            power, spare = spare, power
            inner = torch.dot(power.flatten(), u.flatten())
            # The coefficient of x^k is (1 - α) α^k below T and α^T at T.
            slope = k * alpha ** (k - 1)
            if k < steps:
                grad_u.addcmul_(power, (1 - alpha) * alpha**k)
                grad_alpha += ((1 - alpha) * slope - alpha**k) * inner
            else:
                grad_u.addcmul_(power, alpha**k)
                grad_alpha += slope * inner
        return grad_u, None, grad_alpha, None


def _steps(u: Tensor, adj: Tensor, alpha: Tensor, num_steps: int) -> Tensor:
    # With α in the matrix a step is one fused product, and no GPU is asked for α.
    scaled = torch.sparse_csr_tensor(
        adj.crow_indices(),
        adj.col_indices(),
        adj.values() * alpha,
        adj.shape,
        check_invariants=False,
    )
    base = (1 - alpha) * u
    g, spare = torch.addmm(base, scaled, u), torch.empty_like(u)
    for _ in range(num_steps - 1):
        torch.addmm(base, scaled, g, out=spare)
        g, spare = spare, g
    return g


class _Exact(torch.autograd.Function):
    """`(I + γ L)^-1 U`, and by implicit differentiation its gradients."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, adj: Tensor, gamma: Tensor, tolerance: float) -> Tensor:
        x = _solve(u, adj, float(gamma), tolerance)
        ctx.save_for_backward(x if ctx.needs_input_grad[2] else None, adj, gamma)
        ctx.tolerance = tolerance
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        x, adj, gamma = ctx.saved_tensors
        y = _solve(grad.contiguous(), transpose(adj), float(gamma), ctx.tolerance)
        grad_gamma = None
        if x is not None:
            # (I + γ L) x = U, so dx/dγ = -(I + γ L)^-1 L x.
            slope = torch.addmm(x, adj, x, alpha=-1)
            grad_gamma = -torch.dot(y.flatten(), slope.flatten())
        return y, None, grad_gamma, None


def _solve(u: Tensor, adj: Tensor, gamma: float, tolerance: float) -> Tensor:
    """Chebyshev iteration for `(1 + γ) x = γ Â x + u`: a fixed degree, no inner products.

    The semi-iterative method of Golub and Varga (1961) from x = 0, in two tables that take turns.
    """
    degree = chebyshev_degree(gamma, tolerance)
    if degree == 0:
        return u.clone()
    centre = 1 + gamma
    radius = gamma / centre  # spectral radius of the plain iteration
    before, x = torch.zeros_like(u), u / centre
    omega = 2.0
    for _ in range(degree - 1):
        omega = 1 / (1 - radius**2 * omega / 4)
        # x_next = ω ((γ Â x + u) / (1 + γ) - x_before) + x_before
        torch.addmm(before, adj, x, beta=1 - omega, alpha=omega * radius, out=before)
        before.add_(u, alpha=omega / centre)
        before, x = x, before
    return x


def sm_approx(u: Tensor, adj: Tensor, alpha: Tensor, num_steps: int = 10) -> Tensor:
    """Approximate Sm: `num_steps` steps of `G = α Â G + (1 - α) U`, from `G = U`.

    Half-precision values are smoothed, and returned, in float32.

    Args:
        u: `(N,)` or `(N, D)` float, the values to be smoothed.
        adj: sparse CSR `(N, N)` float, normalised. No gradient flows to it.
        alpha: 0-dim, the strength of smoothing, in [0, 1].
        num_steps: number of steps; 0 is the identity.

    Returns:
        Like `u`.

    Raises:
        ValueError: where shapes, layouts, dtypes or devices do not fit each other.

    Example:
        >>> adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
        >>> sm_approx(torch.tensor([1.0, 0.0]), adj, torch.tensor(0.5), num_steps=1)
        tensor([0.5000, 0.5000])
    """
    table, matrix = prepare(u, adj)
    if num_steps > 0:
        with torch.autocast(u.device.type, enabled=False):
            table = _Approx.apply(table, matrix, alpha.to(table.dtype), num_steps)  # type: ignore[no-untyped-call]
    return table.reshape(u.shape)


def sm_exact(u: Tensor, adj: Tensor, gamma: Tensor) -> Tensor:
    """Exact Sm: `(I + γ (I - Â))^-1 U`, by Chebyshev iteration, without a dense matrix.

    The degree follows from `gamma` and the dtype alone (1e-6 in float32, 1e-12 in float64), so no
    bag depends on another. Half-precision values are smoothed, and returned, in float32.

    Args:
        u: `(N,)` or `(N, D)` float, the values to be smoothed.
        adj: sparse CSR `(N, N)` float, normalised. No gradient flows to it.
        gamma: 0-dim, at least 0; `alpha / (1 - alpha)`.

    Returns:
        Like `u`.

    Raises:
        ValueError: where shapes, layouts, dtypes or devices do not fit each other, or gamma is
            negative or not finite.

    Example:
        >>> adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
        >>> sm_exact(torch.tensor([1.0, 0.0]), adj, torch.tensor(1.0))
        tensor([0.6667, 0.3333])
    """
    table, matrix = prepare(u, adj)
    tolerance = 1e-12 if table.dtype == torch.float64 else 1e-6
    with torch.autocast(u.device.type, enabled=False):
        out: Tensor = _Exact.apply(table, matrix, gamma.to(table.dtype), tolerance)  # type: ignore[no-untyped-call]
    return out.reshape(u.shape)


def prepare(u: Tensor, adj: Tensor) -> tuple[Tensor, Tensor]:
    """The values as a `(N, D)` table of at least float32, and the adjacency to go with it.

    Its indices become int32: with any other, MKL has them converted at every product.

    Raises:
        ValueError: where shapes, layouts, dtypes or devices do not fit each other.
    """
    if u.ndim not in (1, 2) or not u.is_floating_point():
        raise ValueError(
            f"expected float values of shape (N,) or (N, D), got {u.dtype} of shape "
            f"{tuple(u.shape)}"
        )
    expected = (len(u), len(u))
    fits = adj.layout == torch.sparse_csr and tuple(adj.shape) == expected
    if not fits or not adj.is_floating_point() or adj.device != u.device:
        raise ValueError(
            f"expected adj as sparse CSR of floats of shape {expected} on {u.device}, got "
            f"{adj.layout} of {adj.dtype}, shape {tuple(adj.shape)}, on {adj.device}"
        )
    dtype = torch.promote_types(u.dtype, torch.float32)
    table = u.to(dtype).reshape(len(u), *u.shape[1:] or (1,)).contiguous()
    matrix = torch.sparse_csr_tensor(
        adj.crow_indices().int(),
        adj.col_indices().int(),
        adj.values().detach().to(dtype),
        expected,
        check_invariants=False,
    )
    return table, matrix
