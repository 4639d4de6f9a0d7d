"""Dirichlet energies against a loop over the edges, and their laws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

import reference
from milforge.functional import dirichlet_energy, relative_dirichlet_energy
from milforge.functional.sm import sm_approx, sm_exact
from milforge.graph import normalize_adjacency

BOTH = pytest.mark.parametrize("measure", [dirichlet_energy, relative_dirichlet_energy])
sizes = st.lists(st.integers(0, 7), min_size=1, max_size=4)
seeds = st.integers(0, 2**31)
alphas = st.floats(0.05, 0.95)


def make_edges(sizes, seed=0, density=0.5):
    """`(i, j, weight)` within bags, each edge once; the first instance of a bag has none."""
    generator = torch.Generator().manual_seed(seed)
    edges, start = [], 0
    for size in sizes:
        for i in range(start + 1, start + size):
            for j in range(i + 1, start + size):
                if torch.rand((), generator=generator) < density:
                    edges.append((i, j, float(torch.rand((), generator=generator)) + 0.1))
        start += size
    return edges


def make_case(sizes=(6, 0, 1, 5), seed=0, width=3):
    """Values, the adjacency as the package normalises it, the pointer, and the edges."""
    u, ptr = reference.make_bags(sizes, width, seed)
    edges = make_edges(sizes, seed)
    weights = torch.zeros(len(u), len(u), dtype=torch.float64)
    for i, j, weight in edges:
        weights[i, j] = weights[j, i] = weight
    return u, normalize_adjacency(weights.to_sparse_csr(), "sym"), ptr, edges


def energy_by_edges(u, ptr, edges):
    """`sum w |u_i / sqrt(d_i) - u_j / sqrt(d_j)|^2`, edge after edge, of each bag."""
    degree = [0.0] * len(u)
    for i, j, weight in edges:
        degree[i] += weight
        degree[j] += weight
    energies = [0.0] * (len(ptr) - 1)
    for i, j, weight in edges:
        (bag,) = [b for b in range(len(ptr) - 1) if ptr[b] <= i < ptr[b + 1]]
        gap = u[i].double() / degree[i] ** 0.5 - u[j].double() / degree[j] ** 0.5
        energies[bag] += weight * float((gap * gap).sum())
    return torch.tensor(energies, dtype=torch.float64)


def ratio_by_edges(u, ptr, edges):
    squares = [float((bag.double() ** 2).sum()) for bag in reference.split(u, ptr)]
    energies = energy_by_edges(u, ptr, edges).tolist()
    ratios = [e / s if s else 0.0 for e, s in zip(energies, squares, strict=True)]
    return torch.tensor(ratios, dtype=torch.float64)


ORACLES = {dirichlet_energy: energy_by_edges, relative_dirichlet_energy: ratio_by_edges}


@BOTH
@pytest.mark.parametrize("bags", [(6, 0, 1, 5), (9,), (1, 1), (0,), (0, 0, 4), (40, 7)])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_energy_is_that_of_the_edges(measure, bags, width, dtype, tolerance):
    u, adj, ptr, edges = make_case(bags, width=width)
    got = measure(u.to(dtype), adj.to(dtype), ptr)
    assert got.dtype == dtype
    assert_close(got.double(), ORACLES[measure](u, ptr, edges), rtol=tolerance, atol=tolerance)


@BOTH
def test_one_column_may_come_without_its_dimension(measure):
    u, adj, ptr, _ = make_case(width=1)
    assert torch.equal(measure(u[:, 0], adj, ptr), measure(u, adj, ptr))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32(measure, dtype):
    u, adj, ptr, edges = make_case((30, 8))
    got = measure(u.to(dtype), adj.float(), ptr)
    assert got.dtype == torch.float32
    expected = ORACLES[measure](u.to(dtype), ptr, edges)
    assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@BOTH
def test_autocast_is_of_no_account(measure):
    u, adj, ptr, _ = make_case((30, 8))
    u, adj = u.float(), adj.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = measure(u, adj, ptr)
    assert torch.equal(inside, measure(u, adj, ptr))


@BOTH
def test_gradients(measure):
    u, adj, ptr, _ = make_case()
    assert gradcheck(lambda u: measure(u, adj, ptr), (u.requires_grad_(),))


@BOTH
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bag_does_not_feel_the_others(measure, bad):
    u, adj, ptr, _ = make_case((5, 4))
    alone = measure(u[:5], adj.to_dense()[:5, :5].to_sparse_csr(), ptr[:2])
    u[5:] = bad
    together = measure(u, adj, ptr)
    assert_close(together[:1], alone, rtol=1e-12, atol=1e-12)
    assert not together[1].isfinite()


@BOTH
@given(sizes=sizes, seed=seeds, data=st.data())
def test_the_order_of_instances_is_of_no_account(measure, sizes, seed, data):
    u, adj, ptr, _ = make_case(sizes, seed)
    order, start = [], 0
    for size in sizes:
        order += data.draw(st.permutations(range(start, start + size)))
        start += size
    order = torch.tensor(order, dtype=torch.int64)
    turned = measure(u[order], adj.to_dense()[order][:, order].to_sparse_csr(), ptr)
    assert_close(turned, measure(u, adj, ptr))


@given(sizes=sizes, seed=seeds, scale=st.floats(-1e3, 1e3).filter(lambda s: abs(s) > 1e-3))
def test_bounds_and_scale(sizes, seed, scale):
    u, adj, ptr, _ = make_case(sizes, seed)
    energy, relative = dirichlet_energy(u, adj, ptr), relative_dirichlet_energy(u, adj, ptr)
    assert (energy >= -1e-12).all()
    assert ((relative >= -1e-12) & (relative <= 2 + 1e-12)).all()
    assert_close(dirichlet_energy(scale * u, adj, ptr) / scale**2, energy, rtol=1e-9, atol=1e-9)
    assert_close(relative_dirichlet_energy(scale * u, adj, ptr), relative, rtol=1e-9, atol=1e-9)


def test_both_bounds_are_reached():
    adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
    ptr = torch.tensor([0, 2])
    for values, expected in (([3.0, 3.0], 0.0), ([3.0, -3.0], 2.0), ([3.0, 0.0], 1.0)):
        assert relative_dirichlet_energy(torch.tensor(values), adj, ptr).tolist() == [expected]


@given(sizes=sizes, seed=seeds, value=st.floats(-1e3, 1e3))
def test_an_isolated_instance_adds_nothing(sizes, seed, value):
    u, adj, ptr, _ = make_case(sizes, seed)
    before = dirichlet_energy(u, adj, ptr)
    alone = adj.to_dense().diagonal() == 1
    assert alone.sum() >= sum(size > 0 for size in sizes)
    u[alone] = value
    assert_close(dirichlet_energy(u, adj, ptr), before, rtol=0, atol=1e-12)


@BOTH
def test_nothing_has_no_energy(measure):
    _, adj, ptr, _ = make_case((3, 0, 2))
    assert measure(torch.zeros(5, 2), adj, ptr).tolist() == [0, 0, 0]
    assert measure(torch.zeros(5, 0), adj, ptr).tolist() == [0, 0, 0]
    empty = torch.zeros(0, 0).to_sparse_csr()
    assert measure(torch.zeros(0, 2), empty, torch.tensor([0])).shape == (0,)


@pytest.mark.parametrize("mode", ["approx", "exact"])
@given(sizes=sizes, seed=seeds, alpha=alphas, steps=st.integers(1, 12))
def test_smoothing_never_raises_the_energy(mode, sizes, seed, alpha, steps):
    u, adj, ptr, _ = make_case(sizes, seed)
    before = dirichlet_energy(u, adj, ptr)
    assert (dirichlet_energy(smooth(mode, u, adj, alpha, steps), adj, ptr) <= before + 1e-9).all()


@given(sizes=sizes, seed=seeds, alpha=alphas)
def test_exact_smoothing_never_raises_the_relative_energy(sizes, seed, alpha):
    # Its weights (1 + gamma lambda)^-2 fall as lambda grows.
    u, adj, ptr, _ = make_case(sizes, seed)
    after = relative_dirichlet_energy(smooth("exact", u, adj, alpha), adj, ptr)
    assert (after <= relative_dirichlet_energy(u, adj, ptr) + 1e-9).all()


def test_approximate_smoothing_may_raise_the_relative_energy():
    # A star of three has the eigenvalues 1, 0, -1: one step keeps more of -1 than of 0.
    star = torch.tensor([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=torch.float64)
    adj = normalize_adjacency(star.to_sparse_csr())
    vectors = torch.linalg.eigh(adj.to_dense()).eigenvectors
    u, ptr = vectors[:, 0] + vectors[:, 1], torch.tensor([0, 3])
    assert float(relative_dirichlet_energy(u, adj, ptr)) == pytest.approx(1.5)
    after = relative_dirichlet_energy(smooth("approx", u, adj, 0.9, 1), adj, ptr)
    assert float(after) == pytest.approx((0.1**2 + 2 * 0.8**2) / (0.1**2 + 0.8**2))


def smooth(mode, u, adj, alpha, steps=5):
    alpha = torch.tensor(alpha, dtype=torch.float64)
    if mode == "approx":
        return sm_approx(u, adj, alpha, steps)
    return sm_exact(u, adj, alpha / (1 - alpha))


@BOTH
@pytest.mark.parametrize(
    ("u", "adj", "message"),
    [
        (torch.zeros(3, 2, 2), torch.eye(3).to_sparse_csr(), r"\(N,\) or \(N, D\), got"),
        (torch.zeros(3).long(), torch.eye(3).to_sparse_csr(), "float values .* torch.int64"),
        (torch.zeros(4), torch.eye(3).to_sparse_csr(), r"shape \(4, 4\) .* shape \(3, 3\)"),
        (torch.zeros(3), torch.eye(3), "sparse CSR .* got torch.strided"),
    ],
)
def test_what_does_not_fit_is_refused(measure, u, adj, message):
    with pytest.raises(ValueError, match=message):
        measure(u, adj, torch.tensor([0, 3]))
