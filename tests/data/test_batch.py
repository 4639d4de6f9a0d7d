from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils.data import DataLoader

import reference
from milforge.data import Bag, BagBatch, collate_bags, unbatch


def adjacency(size, seed, dtype=torch.float32):
    matrix = scipy.sparse.random(size, size, density=0.4, format="csr", random_state=seed)
    matrix.sort_indices()
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr).long(),
        torch.from_numpy(matrix.indices).long(),
        torch.from_numpy(matrix.data).to(dtype),
        matrix.shape,
    )


def make_bags(sizes, **parts):
    """Whole bags of these sizes; parts replace, or with None remove, what is in them."""
    bags = []
    for b, size in enumerate(sizes):
        x, _ = reference.make_bags((size,), 4, seed=b)
        whole = {
            "x": x.float(),
            "y": b % 2,
            "adj": adjacency(size, b),
            "coords": x[:, :2],
            "y_inst": torch.arange(size) % 2,
            "bag_id": f"bag {b}",
            "covariates": torch.tensor([float(b), -1.0]),
        }
        bags.append(Bag(**whole | parts))
    return bags


def dense_blocks(bags):
    return [bag.adj.to_dense() for bag in bags]


def tensors_of(batch):
    streams = batch.x.values() if isinstance(batch.x, dict) else [batch.x]
    return [*streams, batch.ptr, batch.adj, batch.y, batch.y_inst, batch.coords, batch.covariates]


def assert_same(batch, other):
    for one, two in zip(tensors_of(batch), tensors_of(other), strict=True):
        assert_close(one, two, rtol=0, atol=0)
    assert batch.bag_id == other.bag_id


@pytest.mark.parametrize("sizes", [(3, 0, 2), (1,), (0,), (5, 4)])
def test_collate_stacks_the_bags(sizes):
    bags = make_bags(sizes)
    batch = collate_bags(bags)
    assert len(batch) == len(sizes)
    assert batch.num_instances == sum(sizes)
    assert batch.ptr.dtype == torch.int64
    assert batch.ptr.tolist() == np.cumsum([0, *sizes]).tolist()
    assert batch.y.tolist() == [b % 2 for b in range(len(sizes))]
    assert batch.y.dtype == torch.int64
    assert batch.bag_id == [f"bag {b}" for b in range(len(sizes))]
    assert batch.covariates.tolist() == [[b, -1] for b in range(len(sizes))]
    assert batch.seeds is None
    for b, bag in enumerate(bags):
        rows = slice(batch.ptr[b], batch.ptr[b + 1])
        assert torch.equal(batch.x[rows], bag.x)
        assert torch.equal(batch.coords[rows], bag.coords)
        assert torch.equal(batch.y_inst[rows], bag.y_inst)


@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_adjacency_is_block_diagonal(sizes):
    bags = make_bags(sizes)
    adj = collate_bags(bags).adj
    expected = scipy.sparse.block_diag([block.numpy() for block in dense_blocks(bags)])
    assert adj.layout == torch.sparse_csr
    assert adj.dtype == torch.float32
    np.testing.assert_array_equal(adj.to_dense().numpy(), expected.toarray())
    # The invariants that collate does not spend time on.
    torch.sparse_csr_tensor(
        adj.crow_indices(), adj.col_indices(), adj.values(), adj.shape, check_invariants=True
    )


def test_adjacency_may_have_32_bit_indices():
    bags = make_bags((3, 2))
    narrow = [
        torch.sparse_csr_tensor(
            bag.adj.crow_indices().int(), bag.adj.col_indices().int(), bag.adj.values(), (n, n)
        )
        for bag, n in zip(bags, (3, 2), strict=True)
    ]
    wide = collate_bags(bags)
    batch = collate_bags([Bag(b.x, y=b.y, adj=a) for b, a in zip(bags, narrow, strict=True)])
    assert torch.equal(batch.adj.to_dense(), wide.adj.to_dense())
    assert torch.equal(batch.padded()[2].to_dense(), wide.padded()[2].to_dense())


def test_streams_are_stacked_by_name():
    one = Bag({"a": torch.zeros(2, 3), "b": torch.ones(2, 5)})
    two = Bag({"b": torch.full((1, 5), 2.0), "a": torch.full((1, 3), 3.0)})
    batch = collate_bags([one, two])
    assert set(batch.x) == {"a", "b"}
    assert batch.x["a"].tolist() == [[0.0] * 3] * 2 + [[3.0] * 3]
    assert batch.x["b"].tolist() == [[1.0] * 5] * 2 + [[2.0] * 5]
    assert batch.num_instances == 3
    X, mask, adj = batch.padded()
    assert (X["a"].shape, X["b"].shape, adj) == ((2, 2, 3), (2, 2, 5), None)
    assert mask.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0], torch.tensor([1, 0])),
        ([np.int64(2), torch.tensor(5)], torch.tensor([2, 5])),
        ([torch.tensor([0, 1]), torch.tensor([1, 1])], torch.tensor([[0, 1], [1, 1]])),
        ([1.5, -2.0], torch.tensor([1.5, -2.0])),
        ([torch.tensor([0.5, 1.0]), torch.zeros(2)], torch.tensor([[0.5, 1.0], [0.0, 0.0]])),
        ([None, None], None),
    ],
)
def test_labels(labels, expected):
    y = collate_bags([Bag(torch.zeros(1, 2), y=label) for label in labels]).y
    assert (y is None) if expected is None else torch.equal(y, expected)
    assert y is None or y.dtype == expected.dtype


def test_missing_instance_labels_are_unknown():
    labelled = Bag(torch.zeros(2, 1), y_inst=torch.tensor([1, 0], dtype=torch.int8))
    unlabelled = Bag(torch.zeros(3, 1))
    y_inst = collate_bags([unlabelled, labelled]).y_inst
    assert y_inst.tolist() == [-1, -1, -1, 1, 0]
    assert y_inst.dtype == torch.int64
    assert collate_bags([unlabelled, unlabelled]).y_inst is None


def test_what_no_bag_has_the_batch_has_not():
    batch = collate_bags([Bag(torch.zeros(2, 1))] * 2)
    assert (batch.adj, batch.y, batch.y_inst, batch.coords, batch.covariates) == (None,) * 5
    assert batch.padded()[2] is None
    assert batch.to("cpu").adj is None


@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_padded_agrees_with_a_loop(sizes):
    bags = make_bags(sizes)
    batch = collate_bags(bags)
    X, mask, adj = batch.padded()
    expected_x, expected_mask = reference.pad(batch.x, batch.ptr)
    assert torch.equal(X, expected_x)
    assert torch.equal(mask, expected_mask)
    dense = torch.zeros(len(sizes), max(sizes), max(sizes))
    for b, block in enumerate(dense_blocks(bags)):
        dense[b, : sizes[b], : sizes[b]] = block
    assert adj.layout == torch.sparse_coo
    assert torch.equal(adj.to_dense(), dense)
    # It says that it is coalesced: sorted, without doubles.
    plain = torch.sparse_coo_tensor(adj.indices(), adj.values(), adj.shape).coalesce()
    assert adj.is_coalesced()
    assert torch.equal(plain.indices(), adj.indices())


def test_padded_images():
    bags = [Bag(torch.full((n, 1, 4, 3), float(n))) for n in (2, 3)]
    X, mask, _ = collate_bags(bags).padded()
    assert X.shape == (2, 3, 1, 4, 3)
    assert X.sum((2, 3, 4)).tolist() == [[24.0, 24.0, 0.0], [36.0] * 3]
    assert mask.sum(1).tolist() == [2, 3]


def test_padded_passes_gradients():
    x, ptr = reference.make_bags((2, 3), 4)
    batch = BagBatch(x.requires_grad_(), ptr, None, None, None, None, ["", ""])
    batch.padded()[0].sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_unbatch_is_the_inverse_of_collate():
    bags = make_bags((3, 0, 2))
    batch = collate_bags(bags)
    parts = unbatch(batch, batch.x)
    assert all(torch.equal(part, bag.x) for part, bag in zip(parts, bags, strict=True))


def test_to_moves_every_tensor():
    streams = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)}
    batch = replace(collate_bags(make_bags((2, 2), x=streams)), seeds=torch.tensor([5, 6]))
    moved = batch.to("meta")
    assert {tensor.device.type for tensor in [*tensors_of(moved), moved.seeds]} == {"meta"}
    assert {tensor.device.type for tensor in tensors_of(batch)} == {"cpu"}
    assert moved.bag_id == batch.bag_id
    assert_same(batch.to(torch.device("cpu")), batch)


@pytest.mark.gpu
def test_pinned_memory_moves_to_the_gpu():
    batch = collate_bags(make_bags((3, 0, 2)))
    pinned = batch.pin_memory()
    assert pinned.x.is_pinned()
    assert pinned.adj.values().is_pinned()
    assert pinned.ptr.is_pinned()
    assert_same(pinned.to("cuda").to("cpu"), batch)


@pytest.mark.parametrize(
    ("workers", "start"),
    [
        (0, None),
        (2, "fork"),
        pytest.param(1, "spawn", marks=pytest.mark.slow),
    ],
)
def test_batches_come_whole_out_of_a_loader(workers, start):
    bags = make_bags((3, 0, 2, 4, 1))
    loader = DataLoader(
        bags,
        batch_size=2,
        collate_fn=collate_bags,
        num_workers=workers,
        multiprocessing_context=start,
    )
    batches = list(loader)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for i, batch in enumerate(batches):
        assert_same(batch, collate_bags(bags[2 * i : 2 * i + 2]))


def test_no_bags_are_refused():
    with pytest.raises(ValueError, match="at least one bag, got an empty list"):
        collate_bags([])


@pytest.mark.parametrize("part", ["y", "coords", "adj", "covariates"])
@pytest.mark.parametrize("lacking", [0, 1])
def test_what_only_some_bags_have_is_refused_by_name(part, lacking):
    bags = make_bags((2, 2, 2))
    bags[lacking] = make_bags((2, 2, 2), **{part: None})[lacking]
    having = 1 if lacking == 0 else 0
    message = f"{part} in all bags .* 'bag {having}' has it, bag 'bag {lacking}' does not"
    with pytest.raises(ValueError, match=message):
        collate_bags(bags)


STREAMS = {"a": torch.zeros(2, 4), "b": torch.zeros(2, 4)}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {},
            {"x": torch.zeros(2, 5)},
            r"x of shape \(N, 4\) and torch\.float32 as in bag 'bag 0', got shape \(N, 5\)",
        ),
        ({}, {"x": torch.zeros(2, 4, 1)}, r"x of .* got shape \(N, 4, 1\)"),
        ({}, {"x": torch.zeros(2, 4).half()}, r"x of .* got .* torch\.float16"),
        ({}, {"x": STREAMS}, "x of .* got dict"),
        ({"x": STREAMS}, {}, r"the streams \['a', 'b'\] of bag 'bag 0', got a single tensor"),
        ({"x": STREAMS}, {"x": {"a": torch.zeros(2, 4)}}, r"the streams .* got \['a'\]"),
        ({"x": STREAMS}, {"x": STREAMS | {"b": torch.zeros(2, 3)}}, r"b of .* got shape \(N, 3\)"),
        ({}, {"y": torch.tensor([0, 1])}, r"label of shape \(\) .* got shape \(2\)"),
        ({}, {"y": 1.0}, r"label of .*torch\.int64 .* got .* torch\.float32"),
        (
            {"y": torch.tensor([0, 1])},
            {"y": torch.tensor([0, 1, 1])},
            r"label of shape \(2\) .* got shape \(3\)",
        ),
        ({}, {"coords": torch.zeros(2, 3).double()}, r"coords of shape \(N, 2\) .* \(N, 3\)"),
        ({}, {"coords": torch.zeros(2, 2)}, r"coords of .*torch\.float64 .* got .*float32"),
        ({}, {"covariates": torch.zeros(3)}, r"covariates of shape \(2\) .* got shape \(3\)"),
        ({}, {"covariates": torch.zeros(2).long()}, r"covariates of .*float32 .* got .*int64"),
        ({}, {"adj": adjacency(2, 0, torch.float64)}, r"adj of .*float32 .* got .*float64"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(first, second, message):
    bags = [make_bags((2, 2), **first)[0], make_bags((2, 2), **second)[1]]
    with pytest.raises(ValueError, match=f"bag 'bag 1': expected {message}"):
        collate_bags(bags)


def test_a_batch_of_no_bags_keeps_the_shape_of_everything():
    batch = replace(collate_bags(make_bags((3, 2))), seeds=torch.tensor([5, 6]))
    none = batch.without_bags()
    assert (len(none), none.num_instances, none.bag_id) == (0, 0, [])
    for empty, full in zip(
        [*tensors_of(none), none.seeds], [*tensors_of(batch), batch.seeds], strict=True
    ):
        assert (empty.dtype, empty.layout, empty.ndim) == (full.dtype, full.layout, full.ndim)
    assert none.covariates.shape == (0, 2)
