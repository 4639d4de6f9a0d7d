from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from milforge.functional import segment_auroc, segment_average_precision
from milforge.functional.ranking import segment_has_both

OPERATORS = [
    pytest.param(segment_auroc, roc_auc_score, id="auroc"),
    pytest.param(segment_average_precision, average_precision_score, id="ap"),
]
both_operators = pytest.mark.parametrize(("operator", "oracle"), OPERATORS)


def loop(oracle, scores, labels, ptr):
    """scikit-learn, bag by bag; NaN for a bag without both kinds of known instance."""
    values = []
    for start, end in pairwise(ptr):
        bag_scores, bag_labels = scores[start:end], labels[start:end]
        known = (bag_labels == 0) | (bag_labels == 1)
        bag_scores, bag_labels = bag_scores[known].numpy(), bag_labels[known].numpy()
        if len(set(bag_labels.tolist())) < 2:
            values.append(np.nan)
        else:
            values.append(oracle(bag_labels, bag_scores))
    return torch.tensor(values, dtype=torch.float64)


def assert_same(actual, expected):
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@st.composite
def packed(draw):
    """Bags of 0 to 12 instances, few distinct scores (ties), labels -1, 0 and 1."""
    sizes = draw(st.lists(st.integers(0, 12), min_size=0, max_size=6))
    total = sum(sizes)
    scores = draw(st.lists(st.integers(-3, 3), min_size=total, max_size=total))
    labels = draw(st.lists(st.integers(-1, 1), min_size=total, max_size=total))
    ptr = torch.tensor([0, *np.cumsum(sizes).tolist()])
    return torch.tensor(scores) / 4, torch.tensor(labels, dtype=torch.int64), ptr


def random_batch(sizes, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    scores = torch.randn(total, generator=generator)
    if levels is not None:
        scores = (scores * levels).round() / levels
    labels = torch.randint(-1, 2, (total,), generator=generator)
    return scores, labels, torch.tensor([0, *np.cumsum(sizes).tolist()])


@both_operators
@given(batch=packed())
def test_agrees_with_scikit_learn_bag_by_bag(operator, oracle, batch):
    assert_same(operator(*batch), loop(oracle, *batch))


@both_operators
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [None, 4])
def test_agrees_with_scikit_learn_on_large_bags(operator, oracle, dtype, levels):
    scores, labels, ptr = random_batch([20_000, 0, 1, 7, 3_000], levels=levels)
    scores = scores.to(dtype)
    assert_same(operator(scores, labels, ptr), loop(oracle, scores, labels, ptr))


def test_auroc_of_the_largest_bags_is_counted_exactly():
    """Counts beyond what float32 holds: one wrong pair among 2.5 billion shows."""
    n = 100_000
    labels = torch.cat([torch.zeros(n // 2), torch.ones(n // 2)]).long()
    scores = torch.arange(n, dtype=torch.float64)
    ptr = torch.tensor([0, n])
    assert segment_auroc(scores, labels, ptr).item() == 1.0
    scores[n // 2 - 1], scores[n // 2] = scores[n // 2].item(), scores[n // 2 - 1].item()
    pairs = (n // 2) ** 2
    assert segment_auroc(scores, labels, ptr).item() == (pairs - 1) / pairs


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@both_operators
def test_half_precision_scores_are_ranked_as_they_are(operator, oracle, dtype):
    scores, labels, ptr = random_batch([50, 60])
    scores = scores.to(dtype)
    assert_same(operator(scores, labels, ptr), loop(oracle, scores.double(), labels, ptr))


def test_known_values():
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 0.0, 0.0])
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 1, 1])
    ptr = torch.tensor([0, 4, 6, 6, 8])
    nan = torch.nan
    expected = torch.tensor([0.75, 0.5, nan, nan], dtype=torch.float64)
    assert_same(segment_auroc(scores, labels, ptr), expected)
    expected = torch.tensor([(1 + 2 / 3) / 2, 0.5, nan, nan], dtype=torch.float64)
    assert_same(segment_average_precision(scores, labels, ptr), expected)


@both_operators
def test_no_bags_and_no_instances(operator, oracle):
    nothing, no_labels = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert operator(nothing, no_labels, torch.tensor([0])).shape == (0,)
    assert operator(nothing, no_labels, torch.tensor([0, 0, 0])).isnan().tolist() == [True, True]


@both_operators
def test_one_kind_of_instance_gives_nan(operator, oracle):
    labels = torch.tensor([1, 1, 0, 0, -1, -1, 1, -1])
    values = operator(torch.arange(8.0), labels, torch.tensor([0, 2, 4, 6, 8]))
    assert values.isnan().all()


@both_operators
def test_infinite_scores_are_ranked_and_tie(operator, oracle):
    infinite = torch.tensor([-torch.inf, 0.5, -torch.inf, torch.inf, -torch.inf, torch.inf])
    labels = torch.tensor([1, 0, 0, 1, 1, 0])
    finite = infinite.clamp(-9, 9)
    ptr = torch.tensor([0, 6])
    assert_same(operator(infinite, labels, ptr), loop(oracle, finite, labels, ptr))


@both_operators
def test_signed_zeros_tie(operator, oracle):
    values = operator(torch.tensor([-0.0, 0.0]), torch.tensor([0, 1]), torch.tensor([0, 2]))
    assert values.tolist() == [0.5]


@both_operators
def test_a_nan_score_makes_its_own_bag_nan(operator, oracle):
    scores, labels, ptr = random_batch([9, 8, 7])
    clean = operator(scores, labels, ptr)
    assert not clean.isnan().any()
    known = (labels[9:17] == 1).nonzero()[0] + 9
    scores[known] = torch.nan
    values = operator(scores, labels, ptr)
    assert values.isnan().tolist() == [False, True, False]
    assert torch.equal(values[[0, 2]], clean[[0, 2]])


@both_operators
def test_a_nan_score_of_an_unknown_instance_is_ignored(operator, oracle):
    scores = torch.tensor([0.1, torch.nan, 0.7, 0.3])
    values = operator(scores, torch.tensor([0, -1, 1, 0]), torch.tensor([0, 4]))
    assert values.tolist() == [1.0]


@both_operators
@given(batch=packed(), seed=st.integers(0, 2**31 - 1))
def test_invariant_to_the_order_of_the_instances(operator, oracle, batch, seed):
    scores, labels, ptr = batch
    generator = torch.Generator().manual_seed(seed)
    shuffled = [
        start + torch.randperm(end - start, generator=generator)
        for start, end in pairwise(ptr.tolist())
    ]
    order = torch.cat([torch.zeros(0, dtype=torch.int64), *shuffled])
    assert_same(operator(scores[order], labels[order], ptr), operator(scores, labels, ptr))


@both_operators
@given(batch=packed())
def test_independent_of_the_other_bags(operator, oracle, batch):
    scores, labels, ptr = batch
    together = operator(scores, labels, ptr)
    for number, (start, end) in enumerate(pairwise(ptr)):
        alone = operator(scores[start:end], labels[start:end], torch.tensor([0, end - start]))
        assert_same(alone, together[[number]])


@both_operators
@given(batch=packed(), shift=st.integers(-8, 8), scale=st.sampled_from([0.5, 1.0, 4.0]))
def test_only_the_order_of_the_scores_counts(operator, oracle, batch, shift, scale):
    """Quarters stay distinct and exact under these maps in float64."""
    scores, labels, ptr = batch
    scores = scores.double()
    expected = operator(scores, labels, ptr)
    assert_same(operator(scores * scale + shift, labels, ptr), expected)
    assert_same(operator(scores.exp(), labels, ptr), expected)


@given(batch=packed())
def test_turning_the_scores_round_turns_the_area_round(batch):
    scores, labels, ptr = batch
    assert_same(segment_auroc(-scores, labels, ptr), 1 - segment_auroc(scores, labels, ptr))


@both_operators
def test_no_gradient_is_tracked(operator, oracle):
    scores, labels, ptr = random_batch([5, 5])
    assert not operator(scores.requires_grad_(), labels, ptr).requires_grad


@both_operators
def test_shapes_are_checked(operator, oracle):
    ptr = torch.tensor([0, 3])
    with pytest.raises(ValueError, match=r"same shape \(N,\), got \(3,\) and \(1,\)"):
        operator(torch.zeros(3), torch.zeros(1, dtype=torch.int64), ptr)
    with pytest.raises(ValueError, match=r"got \(3, 1\) and \(3, 1\)"):
        operator(torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.int64), ptr)


@given(batch=packed())
def test_has_both_is_where_the_area_is_defined(batch):
    scores, labels, ptr = batch
    assert torch.equal(segment_has_both(labels, ptr), ~segment_auroc(scores, labels, ptr).isnan())


@pytest.mark.gpu
@both_operators
def test_agrees_on_a_gpu_without_waiting_for_it(operator, oracle):
    batch = random_batch([2_000, 0, 1, 300], levels=4)
    on_gpu = [part.cuda() for part in batch]
    operator(*on_gpu)  # the first call sets up cuSPARSE
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        values = operator(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    assert_same(values.cpu(), operator(*batch))
