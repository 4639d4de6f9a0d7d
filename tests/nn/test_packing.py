import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference
from milforge.nn.packing import pack, pack_adjacency

sizes = st.lists(st.integers(0, 5), min_size=1, max_size=5)


@given(sizes=sizes, extra=st.integers(0, 2), seed=st.integers(0, 2**31))
def test_padded_bags_are_packed_and_scores_restored(sizes, extra, seed):
    x, ptr = reference.make_bags(sizes, 3, seed)
    X, mask = reference.pad(x, ptr, fill=torch.nan, longest=max(sizes) + extra)
    packed = pack(X, mask)
    assert torch.equal(packed.x, x)
    assert torch.equal(packed.ptr, ptr)
    restored = packed.restore(x[:, 0])
    expected, _ = reference.pad(x[:, 0], ptr, fill=-torch.inf, longest=max(sizes) + extra)
    assert torch.equal(restored, expected)


def test_instances_may_stand_anywhere_in_a_padded_bag():
    X = torch.arange(6.0).reshape(2, 3, 1)
    mask = torch.tensor([[False, True, False], [True, False, True]])
    packed = pack(X, mask)
    assert packed.x[:, 0].tolist() == [1.0, 3.0, 5.0]
    assert packed.ptr.tolist() == [0, 1, 3]
    inf = -torch.inf
    assert packed.restore(packed.x[:, 0]).tolist() == [[inf, 1.0, inf], [3.0, inf, 5.0]]


def test_without_a_mask_every_row_is_an_instance():
    X = torch.arange(6.0).reshape(2, 3, 1)
    packed = pack(X)
    assert packed.x[:, 0].tolist() == list(range(6))
    assert packed.ptr.tolist() == [0, 3, 6]
    assert torch.equal(packed.restore(packed.x[:, 0]), X[..., 0])


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2)])
def test_padded_batches_of_nothing(shape):
    packed = pack(torch.zeros(shape))
    assert packed.x.shape == (0, 2)
    assert packed.ptr.tolist() == [0] * (shape[0] + 1)
    assert packed.restore(packed.x[:, 0]).shape == shape[:2]


def test_packed_bags_pass_untouched():
    x, ptr = reference.make_bags((2, 0, 1), 3)
    packed = pack(x, ptr=ptr)
    scores = x[:, 0]
    assert packed.x is x
    assert packed.ptr is ptr
    assert packed.restore(scores) is scores


X3, X2 = torch.zeros(2, 3, 4), torch.zeros(6, 4)
MASK, PTR = torch.ones(2, 3, dtype=torch.bool), torch.tensor([0, 2, 6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": X2}, r"with ptr=, got X of shape \(6, 4\) and no ptr"),
        ({"X": X3[None]}, r"got X of shape \(1, 2, 3, 4\)"),
        ({"X": X3.int(), "mask": MASK}, "floating dtype, got torch.int32; convert"),
        ({"X": X2.long(), "ptr": PTR}, "floating dtype, got torch.int64; convert"),
        ({"X": X3, "mask": MASK.float()}, r"mask as bool .* got torch.float32"),
        ({"X": X3, "mask": MASK[:1]}, r"mask as bool of shape \(2, 3\) .* of shape \(1, 3\)"),
        ({"X": X3, "mask": MASK[..., None]}, r"of shape \(2, 3, 1\)"),
        ({"X": X3, "mask": MASK.to("meta")}, "on cpu, got .* on meta"),
        ({"X": X3, "ptr": PTR}, r"\(instances, features\) with ptr, got shape \(2, 3, 4\)"),
        ({"X": X2, "mask": MASK, "ptr": PTR}, "mask for padded bags or ptr for packed ones"),
        ({"X": X2, "ptr": PTR.int()}, "ptr as int64 .* got torch.int32"),
        ({"X": X2, "ptr": PTR.float()}, "ptr as int64 .* got torch.float32"),
        ({"X": X2, "ptr": PTR[None]}, r"of shape \(bags \+ 1,\) on cpu, got .* shape \(1, 3\)"),
        ({"X": X2, "ptr": PTR[:0]}, r"of shape \(0,\)"),
        ({"X": X2, "ptr": PTR.to("meta")}, "on cpu, got .* on meta"),
        ({"X": X2, "ptr": torch.tensor([0, 2])}, r"from 0 to 6, .* got \[0, 2\]"),
        ({"X": X2, "ptr": torch.tensor([0, 2, 7])}, r"from 0 to 6, .* got \[0, 2, 7\]"),
        ({"X": X2, "ptr": torch.tensor([1, 6])}, r"from 0 to 6, .* got \[1, 6\]"),
        ({"X": X2, "ptr": torch.tensor([0, 4, 2, 6])}, r"from 0 to 6, .* got \[0, 4, 2, 6\]"),
        ({"X": X2, "ptr": torch.arange(20)}, r"from 0 to 6, .* got 0 \.\.\. 19"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pack(**arguments)


@pytest.mark.parametrize("layout", ["dense", "coo"])
@pytest.mark.parametrize("fill", [torch.nan, torch.inf, -torch.inf, 7.0])
@given(sizes=sizes, extra=st.integers(0, 2), seed=st.integers(0, 2**31))
def test_adjacencies_are_packed_and_padding_is_dropped(layout, fill, sizes, extra, seed):
    x, ptr = reference.make_bags(sizes, 1)
    dense = reference.make_graph(sizes, seed, "rw")
    padded = reference.pad_adjacency(dense, ptr, fill, max(sizes) + extra)
    _, mask = reference.pad(x, ptr, longest=max(sizes) + extra)
    packed = pack_adjacency(padded.to_sparse() if layout == "coo" else padded, mask)
    assert packed.layout == torch.sparse_csr
    assert torch.equal(packed.to_dense(), dense)
    torch.sparse_csr_tensor(
        packed.crow_indices(),
        packed.col_indices(),
        packed.values(),
        packed.shape,
        check_invariants=True,
    )


def test_adjacency_of_instances_that_stand_anywhere():
    adj = torch.arange(1.0, 19.0).reshape(2, 3, 3)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    expected = [[1.0, 3.0, 0.0], [7.0, 9.0, 0.0], [0.0, 0.0, 14.0]]
    for form in (adj, adj.to_sparse(), adj.clone().requires_grad_()):
        packed = pack_adjacency(form, mask)
        assert packed.to_dense().tolist() == expected
        assert not packed.requires_grad
    assert torch.equal(pack_adjacency(adj).to_dense(), torch.block_diag(*adj))


def test_entries_given_twice_are_added():
    indices = torch.tensor([[0, 0, 0], [1, 1, 0], [0, 0, 1]])
    adj = torch.sparse_coo_tensor(indices, torch.tensor([1.0, 2.0, 4.0]), (1, 2, 2))
    assert pack_adjacency(adj).to_dense().tolist() == [[0.0, 4.0], [3.0, 0.0]]


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0)])
def test_adjacencies_of_nothing(shape):
    for adj in (torch.zeros(shape), torch.zeros(shape).to_sparse()):
        assert pack_adjacency(adj).shape == (0, 0)


A = torch.ones(2, 3, 3)


@pytest.mark.parametrize(
    ("adj", "mask", "message"),
    [
        (A[0], None, r"\(bags, instances, instances\), .* got torch.strided .* shape \(3, 3\)"),
        (A[:, :2], None, r"shape \(2, 2, 3\)"),
        (A[0].to_sparse_csr(), None, "dense or sparse COO, got torch.sparse_csr"),
        (A.to_sparse_csr(), None, "dense or sparse COO, got torch.sparse_csr"),
        (A.to_sparse(2), None, "dense or sparse COO, got torch.sparse_coo"),
        (A.bool(), None, "adj of floats .* got torch.strided of torch.bool"),
        (A.to_sparse().long(), None, "adj of floats .* got torch.sparse_coo of torch.int64"),
        (A, MASK[:1], r"of shape \(1, 3, 3\) on cpu to go with the bags, got \(2, 3, 3\)"),
        (A, MASK.to("meta"), r"on meta to go with the bags, got \(2, 3, 3\) on cpu"),
    ],
)
def test_adjacencies_that_do_not_fit_are_refused(adj, mask, message):
    with pytest.raises(ValueError, match=message):
        pack_adjacency(adj, mask)
