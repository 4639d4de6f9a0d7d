import itertools
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

import reference
from milforge.functional.sm import chebyshev_degree, sm_approx, sm_exact, transpose
from thinned import thinned

SIZES = (6, 0, 1, 4)
HOW = ["sym", "rw"]
sizes = st.lists(st.integers(0, 7), min_size=1, max_size=4)
seeds = st.integers(0, 2**31)


def scalar(value, **options):
    return torch.tensor(value, dtype=torch.float64, **options)


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def smooth(mode, u, adj, alpha, steps=6):
    """Either mode from one alpha."""
    if mode == "approx":
        return sm_approx(u, adj, alpha, steps)
    return sm_exact(u, adj, alpha / (1 - alpha))


MODES = pytest.mark.parametrize("mode", ["approx", "exact"])


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (5, 5), (3, 7), (7, 3)])
def test_transpose(shape):
    dense = normal(*shape).relu()
    turned = transpose(dense.to_sparse_csr())
    assert torch.equal(turned.to_dense(), dense.T)
    torch.sparse_csr_tensor(
        turned.crow_indices(),
        turned.col_indices(),
        turned.values(),
        turned.shape,
        check_invariants=True,
    )


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("width", [(), (1,), (3,)])
def test_approx_is_the_loop(how, steps, alpha, width):
    adj = reference.make_graph(SIZES, how=how)
    u = normal(len(adj), *width)
    expected = reference.sm_approx(u, adj, alpha, steps)
    assert_close(
        sm_approx(u, adj.to_sparse_csr(), scalar(alpha), steps), expected, atol=1e-14, rtol=0
    )


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("gamma", [0.0, 1e-20, 1e-3, 0.3, 1.0, 9.0, 99.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_exact_is_the_dense_solve(how, gamma, dtype, tolerance):
    bags = (40, 1, 30)
    adj = reference.make_graph(bags, how=how, density=0.1)
    u = normal(len(adj), 3)
    expected = reference.sm_exact(u, adj, gamma)
    got = sm_exact(u.to(dtype), adj.to_sparse_csr(), torch.tensor(gamma, dtype=dtype))
    assert got.dtype == dtype
    # The conditioning of the system, 1 + 2 gamma, adds to what float32 rounding leaves.
    assert float((got - expected).norm() / expected.norm()) < tolerance * (1 + gamma / 10)


@pytest.mark.parametrize("gamma", [1e-18, 1e-6, 0.1, 1.0, 9.0, 99.0])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-12])
def test_degree_is_the_least_that_the_bound_allows(gamma, tolerance):
    n = chebyshev_degree(gamma, tolerance)
    # The Chebyshev polynomial at (1 + gamma) / gamma, the inverse of the worst error.
    t = [1.0, (1 + gamma) / gamma]
    while len(t) < n + 1:
        t.append(2 * t[1] * t[-1] - t[-2])
    assert 1 / t[n] <= tolerance
    assert n == 1 or 1 / t[n - 1] > tolerance / 2.1


def test_worst_case_of_the_spectrum_is_within_the_tolerance():
    # A path of two instances has the eigenvalues 1 and -1, the ends of the spectrum.
    adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    for gamma in (0.1, 1.0, 10.0, 100.0):
        for u in ([1.0, 1.0], [1.0, -1.0]):
            u = torch.tensor(u, dtype=torch.float64)
            got = sm_exact(u, adj.to_sparse_csr(), scalar(gamma))
            assert_close(got, reference.sm_exact(u, adj, gamma), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_approx_tends_to_exact(how, alpha):
    adj = reference.make_graph((12, 9), how=how)
    u = normal(len(adj), 2)
    sparse = adj.to_sparse_csr()
    exact = sm_exact(u, sparse, scalar(alpha / (1 - alpha)))
    gaps = [
        float((sm_approx(u, sparse, scalar(alpha), steps) - exact).norm())
        for steps in (2, 4, 8, 200)
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise(gaps))
    assert gaps[-1] < 1e-10


@MODES
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("alpha", thinned([0.5, 0.1, 0.9]))
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gradients(mode, how, alpha, steps):
    adj = reference.make_graph((4, 0, 1, 3), how=how, density=0.8).to_sparse_csr()
    u = normal(8, 2).requires_grad_()
    alpha = scalar(alpha, requires_grad=True)
    assert gradcheck(lambda u, alpha: smooth(mode, u, adj, alpha, steps), (u, alpha))
    # Alone, each takes a path of its own.
    assert gradcheck(lambda u: smooth(mode, u, adj, alpha.detach(), steps), (u,))
    assert gradcheck(lambda alpha: smooth(mode, u.detach(), adj, alpha, steps), (alpha,))
    assert gradcheck(lambda u: smooth(mode, u[:, 0], adj, alpha.detach(), steps), (u,))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_gradient_for_alpha_at_the_ends(alpha):
    adj = reference.make_graph((5,), density=0.8)
    u = normal(5, 2)
    for steps in (1, 2, 4):
        ours, theirs = scalar(alpha, requires_grad=True), scalar(alpha, requires_grad=True)
        sm_approx(u, adj.to_sparse_csr(), ours, steps).sin().sum().backward()
        reference.sm_approx(u, adj, theirs, steps).sin().sum().backward()
        assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


@MODES
def test_gradients_of_expanded_and_strided_tensors(mode):
    adj = reference.make_graph((6,), how="rw", density=0.8)
    wide = normal(6, 8)
    results = []
    for function, graph in ((smooth, adj.to_sparse_csr()), (dense_smooth, adj)):
        u, alpha = wide.clone().requires_grad_(), scalar(0.4, requires_grad=True)
        function(mode, u[:, ::2], graph, alpha).sum().backward()
        results.append((u.grad, alpha.grad))
    assert_close(*results, rtol=0, atol=1e-11)


def dense_smooth(mode, u, adj, alpha, steps=6):
    return reference.sm(u, adj, alpha, steps, mode)


@MODES
@given(sizes=sizes, seed=seeds, how=st.sampled_from(HOW), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_linear(mode, sizes, seed, how, a, b):
    adj = reference.make_graph(sizes, seed, how).to_sparse_csr()
    u, _ = reference.make_bags(sizes, 2, seed)
    v, _ = reference.make_bags(sizes, 2, seed + 1)
    both = smooth(mode, a * u + b * v, adj, scalar(0.6))
    each = a * smooth(mode, u, adj, scalar(0.6)) + b * smooth(mode, v, adj, scalar(0.6))
    assert_close(both, each, rtol=0, atol=1e-10)


@MODES
@given(sizes=sizes, seed=seeds, alpha=st.floats(0.05, 0.95), value=st.floats(-5, 5))
def test_random_walk_keeps_constants(mode, sizes, seed, alpha, value):
    adj = reference.make_graph(sizes, seed, "rw").to_sparse_csr()
    u = torch.full((sum(sizes), 2), value, dtype=torch.float64)
    assert_close(smooth(mode, u, adj, scalar(alpha)), u, rtol=0, atol=1e-10)


@MODES
@given(sizes=sizes, seed=seeds, alpha=st.floats(0.05, 0.95))
def test_dirichlet_energy_does_not_rise(mode, sizes, seed, alpha):
    adj = reference.make_graph(sizes, seed)
    u, _ = reference.make_bags(sizes, 2, seed)
    smoothed = smooth(mode, u, adj.to_sparse_csr(), scalar(alpha))

    def energy(v):
        return float((v * (v - adj @ v)).sum())

    assert energy(smoothed) <= energy(u) + 1e-10


@MODES
@given(sizes=sizes, seed=seeds, how=st.sampled_from(HOW))
def test_isolated_instances_keep_their_value(mode, sizes, seed, how):
    adj = reference.make_graph(sizes, seed, how)
    u, _ = reference.make_bags(sizes, 2, seed)
    alone = adj.diagonal() == 1
    smoothed = smooth(mode, u, adj.to_sparse_csr(), scalar(0.7))
    assert_close(smoothed[alone], u[alone], rtol=0, atol=1e-11)


@MODES
@given(sizes=sizes, seed=seeds, how=st.sampled_from(HOW), data=st.data())
def test_the_order_of_instances_is_of_no_account(mode, sizes, seed, how, data):
    adj = reference.make_graph(sizes, seed, how)
    u, _ = reference.make_bags(sizes, 2, seed)
    order = torch.tensor(data.draw(st.permutations(range(sum(sizes)))), dtype=torch.int64)
    turned = smooth(mode, u[order], adj[order][:, order].to_sparse_csr(), scalar(0.7))
    assert_close(turned, smooth(mode, u, adj.to_sparse_csr(), scalar(0.7))[order])


@MODES
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bag_does_not_feel_the_others(mode, bad):
    adj = reference.make_graph((5, 4), density=0.8)
    u, _ = reference.make_bags((5, 4), 2)
    alone = smooth(mode, u[:5], adj[:5, :5].to_sparse_csr(), scalar(0.5))
    u[5:] = bad
    together = smooth(mode, u, adj.to_sparse_csr(), scalar(0.5))
    assert_close(together[:5], alone, rtol=0, atol=1e-12)
    assert not together[5:].isfinite().any()


@MODES
def test_nothing_is_nothing(mode):
    adj = torch.zeros(0, 0, dtype=torch.float64).to_sparse_csr()
    for shape in ((0,), (0, 3)):
        u = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        alpha = scalar(0.5, requires_grad=True)
        out = smooth(mode, u, adj, alpha)
        assert out.shape == shape
        out.sum().backward()
        assert float(alpha.grad) == 0


@MODES
def test_a_graph_without_entries(mode):
    # Not what the builders give (an isolated instance has a 1), but no reason to fail.
    u = normal(3, 2)
    adj = torch.zeros(3, 3, dtype=torch.float64)
    assert_close(
        smooth(mode, u, adj.to_sparse_csr(), scalar(0.5)),
        dense_smooth(mode, u, adj, 0.5),
        rtol=0,
        atol=1e-12,
    )


@MODES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_smoothed_in_float32(mode, dtype):
    adj = reference.make_graph((30,))
    u = normal(30, 4).to(dtype).requires_grad_()
    out = smooth(mode, u, adj.float().to_sparse_csr(), torch.tensor(0.5))
    assert out.dtype == torch.float32
    assert_close(out.double(), dense_smooth(mode, u.double(), adj, 0.5), rtol=1e-5, atol=1e-5)
    out.sum().backward()
    assert u.grad.dtype == dtype


@MODES
def test_autocast_is_of_no_account(mode):
    adj = reference.make_graph((30,)).float().to_sparse_csr()
    u, alpha = normal(30, 4).float(), torch.tensor(0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = smooth(mode, u, adj, alpha)
    assert torch.equal(inside, smooth(mode, u, adj, alpha))


@MODES
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
def test_adjacencies_of_other_dtypes(mode, index, weights):
    adj = reference.make_graph((20,))
    sparse = adj.to(weights).to_sparse_csr()
    sparse = torch.sparse_csr_tensor(
        sparse.crow_indices().to(index), sparse.col_indices().to(index), sparse.values(), (20, 20)
    )
    u = normal(20, 2).requires_grad_()
    out = smooth(mode, u, sparse, scalar(0.5))
    assert_close(out, dense_smooth(mode, u, adj.to(weights).double(), 0.5), rtol=0, atol=1e-11)
    out.sum().backward()


@pytest.mark.parametrize("trained", [False, True])
def test_what_is_saved_does_not_grow_with_the_steps(trained):
    adj = reference.make_graph((40,)).to_sparse_csr()
    u = normal(40, 16).requires_grad_()

    def tables_saved(function):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            function()
        return sum(t.layout == torch.strided and t.numel() >= u.numel() for t in saved)

    alpha = scalar(0.5, requires_grad=trained)
    for steps in (1, 10, 100):
        assert tables_saved(lambda steps=steps: sm_approx(u, adj, alpha, steps)) == trained
    for gamma in (0.1, 10.0, 1000.0):
        gamma = scalar(gamma, requires_grad=trained)
        assert tables_saved(lambda gamma=gamma: sm_exact(u, adj, gamma)) == trained
    # The hook does see what a loop saves.
    alpha = scalar(0.5, requires_grad=True)
    assert tables_saved(lambda: reference.sm_approx(u, adj.to_dense(), alpha, 10)) >= 10


def test_gradient_of_a_gradient_is_refused_not_wrong():
    adj = reference.make_graph((5,)).to_sparse_csr()
    u = normal(5, 2).requires_grad_()
    for out in (sm_approx(u, adj, scalar(0.5)), sm_exact(u, adj, scalar(0.5))):
        (grad,) = torch.autograd.grad(out.square().sum(), u, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


ADJ = torch.eye(3).to_sparse_csr()


@MODES
@pytest.mark.parametrize(
    ("u", "adj", "message"),
    [
        (torch.zeros(3, 2, 2), ADJ, r"of shape \(N,\) or \(N, D\), got .* shape \(3, 2, 2\)"),
        (torch.zeros(()), ADJ, r"of shape \(\)"),
        (torch.zeros(3).long(), ADJ, "float values .* got torch.int64"),
        (torch.zeros(4), ADJ, r"of shape \(4, 4\) on cpu, got .*, shape \(3, 3\), on cpu"),
        (torch.zeros(3), torch.eye(3), "sparse CSR .* got torch.strided"),
        (torch.zeros(3), torch.eye(3).to_sparse(), "sparse CSR .* got torch.sparse_coo"),
        (torch.zeros(3), torch.eye(3).to_sparse_csc(), "sparse CSR .* got torch.sparse_csc"),
        (torch.zeros(3), torch.eye(3).long().to_sparse_csr(), "of floats .* of torch.int64"),
        (torch.zeros(3), torch.eye(3).bool().to_sparse_csr(), "of floats .* of torch.bool"),
        (torch.zeros(3).to("meta"), ADJ, "on meta, got .* on cpu"),
    ],
)
def test_what_does_not_fit_is_refused(mode, u, adj, message):
    with pytest.raises(ValueError, match=message):
        smooth(mode, u, adj, torch.tensor(0.5))


@pytest.mark.parametrize("gamma", [-1e-3, torch.inf, torch.nan])
def test_gamma_without_a_solution_is_refused(gamma):
    with pytest.raises(ValueError, match=r"gamma .* finite and at least 0, got .*learning rate"):
        sm_exact(torch.zeros(3), ADJ, torch.tensor(gamma))


def test_no_warning_about_sparse_tensors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sm_approx(torch.zeros(3, requires_grad=True), ADJ, torch.tensor(0.5)).sum().backward()
