import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from milforge.graph import check_adjacency, count_isolated, normalize_adjacency


def random_graph(size, seed=0, density=0.3):
    """A symmetric dense table of weights, some rows empty."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((size, size)) * (rng.random((size, size)) < density), 1)
    table = upper + upper.T
    empty = rng.random(size) < 0.2
    table[empty] = table[:, empty] = 0.0
    return torch.from_numpy(table)


def by_matrices(table, how):
    degree = table.sum(dim=1)
    alone = (degree == 0).double()
    inverse = torch.where(degree > 0, 1 / degree, torch.ones_like(degree))
    product = inverse.diag() @ table
    if how == "sym":
        product = inverse.sqrt().diag() @ table @ inverse.sqrt().diag()
    return product + alone.diag()


@given(st.integers(0, 2**31), st.integers(1, 20), st.sampled_from(["sym", "rw"]))
def test_normalisation_agrees_with_dense_products(seed, size, how):
    table = random_graph(size, seed)
    out = normalize_adjacency(table.to_sparse_csr(), how)
    assert out.dtype == torch.float64
    assert_close(out.to_dense(), by_matrices(table, how))
    check_adjacency(out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layout_and_dtype_stay_and_the_input_does_not_change(dtype):
    adj = random_graph(12).to(dtype).to_sparse_csr()
    before = adj.values().clone()
    out = normalize_adjacency(adj)
    assert out.layout == torch.sparse_csr
    assert out.dtype == dtype
    assert out.crow_indices().dtype == out.col_indices().dtype == torch.int64
    assert_close(adj.values(), before)
    torch.sparse_csr_tensor(
        out.crow_indices(), out.col_indices(), out.values(), out.shape, check_invariants=True
    )


def test_none_gives_the_adjacency_back():
    adj = random_graph(5).to_sparse_csr()
    assert normalize_adjacency(adj, None) is adj


def test_weights_of_zero_are_no_neighbours():
    # Node 2 has stored weights, all of them 0.
    crow, columns = torch.tensor([0, 2, 4, 6]), torch.tensor([1, 2, 0, 2, 0, 1])
    values = torch.tensor([2.0, 0.0, 2.0, 0.0, 0.0, 0.0])
    adj = torch.sparse_csr_tensor(crow, columns, values, (3, 3))
    assert count_isolated(adj) == 1
    out = normalize_adjacency(adj)
    assert_close(out.to_dense(), torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    assert out.values().numel() == 3


@given(st.integers(0, 2**31), st.integers(1, 20))
def test_isolated_instances_are_counted_before_and_after(seed, size):
    table = random_graph(size, seed)
    expected = sum(not row.any() for row in table)
    assert count_isolated(table.to_sparse_csr()) == expected
    for how in ("sym", "rw"):
        assert count_isolated(normalize_adjacency(table.to_sparse_csr(), how)) == expected
    assert count_isolated((table + torch.eye(size)).to_sparse_csr()) == expected


def test_random_walk_of_a_normalised_random_walk_is_itself():
    once = normalize_adjacency(random_graph(15).to_sparse_csr(), "rw")
    assert_close(normalize_adjacency(once, "rw").to_dense(), once.to_dense())


GOOD = torch.ones(3, 3)


@pytest.mark.parametrize(
    ("adj", "message"),
    [
        (GOOD, "expected the adjacency as a sparse CSR tensor, got torch.strided"),
        (GOOD.to_sparse_coo(), "CSR tensor, got torch.sparse_coo"),
        (GOOD.numpy(), "CSR tensor, got ndarray"),
        (torch.ones(2, 3).to_sparse_csr(), r"expected a square .* got \(2, 3\)"),
        (GOOD.int().to_sparse_csr(), "float32 or float64, got torch.int32"),
        (GOOD.half().to_sparse_csr(), "float32 or float64, got torch.float16"),
        ((-GOOD).to_sparse_csr(), "expected weights of at least 0, got -1"),
        ((GOOD / 0).to_sparse_csr(), "expected finite weights, got 9"),
        ((GOOD * math.nan).to_sparse_csr(), "expected finite weights, got 9"),
    ],
)
@pytest.mark.parametrize("function", [normalize_adjacency, count_isolated, check_adjacency])
def test_bad_adjacencies_are_named(function, adj, message):
    with pytest.raises(ValueError, match=message):
        function(adj)


def test_unknown_normalisation():
    with pytest.raises(ValueError, match="expected a normalisation of 'sym', 'rw' or None, got 'l"):
        normalize_adjacency(GOOD.to_sparse_csr(), "left")
