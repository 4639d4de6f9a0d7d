import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import ACMIL
from milforge.models.published.acmil import mean_cosine


def build(**options):
    return published.build(ACMIL, branches=3, att_dim=4, top=4, **options)


def test_evaluation_pools_by_the_mean_of_the_branches():
    network, batch = build(), published.batch_of()
    expected = []
    for x in published.bags_of(batch):
        each = [published.softmax(published.gated(network.attention, x, k)) for k in range(3)]
        mean = [sum(w) / 3 for w in zip(*each, strict=True)]
        expected.append(published.affine(network.head, published.pooled(x, mean)))
    assert_close(network(batch).logits, torch.stack(expected), rtol=1e-5, atol=1e-9)


def test_a_training_step_by_hand():
    """Given what was hidden, which the scores say."""
    network, batch = build().train(), published.batch_of()
    output = network(batch)
    logits, own, cosines, start = [], [], [], 0
    for x in published.bags_of(batch):
        weights = []
        for k in range(3):
            plain = published.gated(network.attention, x, k)
            seen = output.scores[start : start + len(x), k]
            hidden = [i for i in range(len(x)) if seen[i] == -torch.inf]
            top = sorted(range(len(x)), key=lambda i: -plain[i].item())[:4]
            assert len(hidden) == int(0.6 * min(4, len(x)))
            assert set(hidden) <= set(top)
            kept = [i for i in range(len(x)) if i not in hidden]
            of_kept = published.softmax([plain[i] for i in kept])
            weight = torch.zeros(len(x)).double()
            weight[kept] = torch.stack(of_kept)
            weights.append(weight)
        own.append([published.affine(network.branch_heads[k], weights[k] @ x) for k in range(3)])
        logits.append(published.affine(network.head, sum(weights) / 3 @ x))
        pairs = [(0, 1), (0, 2), (1, 2)]
        cosines.append(
            sum(weights[i] @ weights[j] / (weights[i].norm() * weights[j].norm()) for i, j in pairs)
            / 3
        )
        start += len(x)
    assert_close(output.logits, torch.stack(logits), rtol=1e-5, atol=1e-9)
    assert_close(output.penalty, sum(cosines) / len(cosines), rtol=1e-5, atol=1e-9)
    (auxiliary,) = output.auxiliary
    for bag, each in enumerate(own):
        found = auxiliary.logits[auxiliary.bag == bag]
        assert_close(found, torch.stack(each), rtol=1e-5, atol=1e-9)


def test_what_is_hidden_is_drawn_by_the_seed_of_the_bag():
    network, batch = build().train(), published.batch_of((40, 40, 40))
    first = network(batch).scores.isneginf()
    assert torch.equal(first, network(batch).scores.isneginf())
    other = published.batch_of((40, 40, 40))
    other.seeds[1] += 1
    changed = (network(other).scores.isneginf() != first).reshape(3, 40, 3).any((1, 2))
    assert changed.tolist() == [False, True, False]


def test_the_cosine_of_one_branch_with_none():
    assert mean_cosine(torch.ones(3, 1), torch.tensor([0, 1, 3])).tolist() == [0, 0]


def test_a_share_that_hides_all_is_refused():
    with pytest.raises(ValueError, match=r"model\.hidden_share from 0 to below 1, got 1"):
        build(hidden_share=1.0)
