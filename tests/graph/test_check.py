import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from milforge.graph import build_adjacency, check_adjacency, normalize_adjacency

REMEDY = r'build_adjacency\(\.\.\., normalize="sym"\)'
seeds = st.integers(0, 2**31)


def grid(side, stride=1):
    return torch.cartesian_prod(torch.arange(side), torch.arange(side)) * stride


def random_weights(size, seed, density=0.4):
    """Symmetric weights over several components, dense float64."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((size, size)) * (rng.random((size, size)) < density))
    return upper + upper.T


def radius_of(table):
    return np.abs(np.linalg.eigvals(table)).max()


def csr(table, dtype=torch.float64):
    return torch.as_tensor(table, dtype=dtype).to_sparse_csr()


# Accepted


@pytest.mark.parametrize("normalize", ["sym", "rw"])
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("neighbours", [4, 8])
def test_grids_are_accepted(neighbours, self_loops, normalize):
    adj = build_adjacency(
        grid(60),
        method="grid",
        neighbours=neighbours,
        self_loops=self_loops,
        normalize=normalize,
    )
    check_adjacency(adj)


def test_row_sums_above_1_are_no_reason_to_refuse():
    adj = build_adjacency(grid(4), method="grid")
    assert adj.to_dense().sum(dim=1).max() > 1.2
    check_adjacency(adj)


@pytest.mark.parametrize("normalize", ["sym", "rw"])
@pytest.mark.parametrize("size", [2, 3, 20_000])
def test_long_chains_are_accepted_where_power_iterations_hardly_converge(size, normalize):
    rng = np.random.default_rng(0)
    coords = torch.from_numpy(rng.random(size).cumsum())[:, None]
    check_adjacency(build_adjacency(coords, method="chain", weight="gaussian", normalize=normalize))


@given(seeds, st.integers(1, 25), st.sampled_from([0.05, 0.2, 0.6]))
def test_every_normalised_graph_is_accepted(seed, size, density):
    weights = csr(random_weights(size, seed, density))
    for how in ("sym", "rw"):
        for dtype in (torch.float32, torch.float64):
            check_adjacency(normalize_adjacency(weights, how).to(dtype))


@given(seeds, st.integers(2, 20))
def test_any_scaling_of_a_symmetric_matrix_is_accepted(seed, size):
    weights = random_weights(size, seed)
    scale = np.exp(np.random.default_rng(seed).normal(0, 3, size))
    weights *= 0.99 / max(radius_of(weights), 1e-3)
    check_adjacency(csr(scale[:, None] * weights / scale))


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_graph_without_edges_is_accepted(size):
    check_adjacency(csr(np.zeros((size, size))))
    check_adjacency(csr(np.eye(size)))


def test_stored_zeros_in_one_direction_are_no_weights():
    adj = torch.sparse_csr_tensor(
        torch.tensor([0, 1, 2]), torch.tensor([1, 1]), torch.tensor([0.0, 1.0]), (2, 2)
    )
    check_adjacency(adj)


# The spectral radius


@given(seeds, st.integers(2, 25), st.floats(0.5, 2.0), st.sampled_from([0.05, 0.2, 0.6]))
def test_the_verdict_is_that_of_the_eigenvalues(seed, size, radius, density):
    assume(not 1.0009 < radius < 1.0011)  # at the tolerance either is right
    weights = random_weights(size, seed, density)
    assume(radius_of(weights) > 1e-3)
    weights *= radius / radius_of(weights)
    scale = np.exp(np.random.default_rng(seed).normal(0, 1, size))
    for table in (weights, scale[:, None] * weights / scale):
        if radius < 1.001:
            check_adjacency(csr(table))
        else:
            with pytest.raises(ValueError, match=f"radius of at most 1, got .*{REMEDY}"):
                check_adjacency(csr(table))


@pytest.mark.parametrize(("radius", "accepted"), [(1.0009, True), (1.0011, False)])
def test_the_verdict_is_sharp_on_a_large_graph(radius, accepted):
    adj = build_adjacency(grid(100), method="grid")
    adj = torch.sparse_csr_tensor(
        adj.crow_indices(), adj.col_indices(), radius * adj.values(), adj.shape
    )
    if accepted:
        check_adjacency(adj)
    else:
        with pytest.raises(ValueError, match=r"spectral radius of at most 1, got 1\.001"):
            check_adjacency(adj)


def test_one_bad_component_among_many_is_found():
    table = np.kron(np.eye(40), [[0.0, 1.0], [1.0, 0.0]])
    check_adjacency(csr(table))
    table[50:52, 50:52] *= 1.01
    with pytest.raises(ValueError, match=r"spectral radius of at most 1, got 1\.0"):
        check_adjacency(csr(table))


@pytest.mark.parametrize("method", ["radius", "knn", "grid"])
def test_an_adjacency_that_was_not_normalised_is_refused(method):
    adj = build_adjacency(grid(30), method=method, normalize=None)
    with pytest.raises(ValueError, match=f"radius of at most 1, got [78].*{REMEDY}"):
        check_adjacency(adj)


# Symmetry


def test_a_one_way_link_is_named():
    table = np.eye(4) / 2
    table[2, 3] = 0.1
    with pytest.raises(ValueError, match=f"from instance 2 to 3 and none back.*{REMEDY}"):
        check_adjacency(csr(table))


def test_a_one_way_link_is_found_where_the_numbers_of_links_agree():
    cycle = np.roll(np.eye(5), 1, axis=1)
    with pytest.raises(ValueError, match="and none back"):
        check_adjacency(csr(cycle))


@pytest.mark.parametrize("twist", [1e-2, 0.5])
def test_a_cycle_that_turns_one_way_is_refused(twist):
    # A random walk that prefers one direction: no scaling makes it symmetric.
    step = np.roll(np.eye(7), 1, axis=1)
    with pytest.raises(ValueError, match=f"no scaling of the rows makes symmetric.*{REMEDY}"):
        check_adjacency(csr((0.5 + twist / 2) * step + (0.5 - twist / 2) * step.T))


@given(seeds, st.integers(3, 20))
def test_rows_of_directed_weights_are_refused(seed, size):
    rng = np.random.default_rng(seed)
    table = rng.random((size, size)) + 0.1
    table /= table.sum(axis=1, keepdims=True)
    # Kolmogorov: the products along a triangle and back agree where it is similar to symmetric.
    there, back = table[0, 1] * table[1, 2] * table[2, 0], table[0, 2] * table[2, 1] * table[1, 0]
    assume(abs(math.log(there / back)) > 0.01)
    with pytest.raises(ValueError, match="no scaling of the rows makes symmetric"):
        check_adjacency(csr(table))


def test_one_twisted_component_among_many_is_found():
    step = np.roll(np.eye(3), 1, axis=1)
    blocks = np.kron(np.eye(20), (step + step.T) / 2)
    blocks[30:33, 30:33] = 0.6 * step + 0.4 * step.T
    with pytest.raises(ValueError, match=r"between instances 3[012] and 3[012]"):
        check_adjacency(csr(blocks))


# Bags


def two_bags():
    adj = build_adjacency(torch.arange(5.0)[:, None], method="chain")
    table = adj.to_dense()
    table[1, 2] = table[2, 1] = 0.0
    return table.to_sparse_csr()


@pytest.mark.parametrize("ptr", [[0, 2, 5], [0, 5], [0, 0, 2, 2, 5, 5]])
def test_weights_within_the_bags_are_accepted(ptr):
    check_adjacency(two_bags(), torch.tensor(ptr))
    check_adjacency(two_bags(), torch.tensor(ptr, dtype=torch.int32))


def test_a_weight_between_bags_is_named():
    message = (
        "block diagonal over the bags, got 2 weights between bags, as from instance 2 of bag 0 to "
        "instance 3 of bag 1: build one adjacency per bag and let collate_bags join them"
    )
    with pytest.raises(ValueError, match=message):
        check_adjacency(two_bags(), torch.tensor([0, 3, 5]))


@pytest.mark.parametrize(
    "ptr",
    [
        torch.tensor([0, 2, 4]),
        torch.tensor([1, 5]),
        torch.tensor([0, 3, 2, 5]),
        torch.tensor([[0, 5]]),
        torch.tensor([], dtype=torch.int64),
        torch.tensor([0.0, 5.0]),
    ],
)
def test_a_ptr_that_does_not_fit_is_named(ptr):
    with pytest.raises(ValueError, match=r"expected ptr of B \+ 1 integers .* N = 5, got"):
        check_adjacency(two_bags(), ptr)


# The form


@pytest.mark.parametrize("columns", [[1, 0, 0], [0, 0, 1], [0, 5, 1], [-1, 1, 0]])
def test_indices_that_are_no_csr_are_refused(columns):
    adj = torch.sparse_csr_tensor(
        torch.tensor([0, 2, 3]), torch.tensor(columns), torch.ones(3), (2, 2)
    )
    with pytest.raises(ValueError, match=r"expected valid CSR indices.* sorted and distinct"):
        check_adjacency(adj)
