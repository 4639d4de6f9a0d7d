from collections import Counter

import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import DTFD


def build(outputs=3, **options):
    return published.build(DTFD, outputs, att_dim=4, pseudo_bags=3, **options)


def parts_of(network, batch):
    """The instances of each pseudo-bag of each bag, by number in the bag, as the network draws."""
    order, bounds, bags = network._split(batch, len(batch.x))
    parts = [[] for _ in range(len(batch))]
    for s, bag in enumerate(bags.tolist()):
        rows = order[bounds[s] : bounds[s + 1]] - batch.ptr[bag]
        parts[bag].append(rows.tolist())
    return parts


def distilled_by_hand(network, x, parts, distil, count):
    """The rows that tier 2 pools, the instances behind each, and the logits of tier 1."""
    rows, behind, tier1 = [], [], []
    for part in parts:
        weights = published.softmax(published.gated(network.attention1, x[part]))
        z = published.pooled(x[part], weights)
        logits = published.affine(network.head1, z)
        tier1.append(logits)
        if distil == "afs":
            rows.append(z)
            behind.append(list(zip(part, weights, strict=True)))
            continue
        activations = [
            network.head1.weight @ (w * x[i]) for w, i in zip(weights, part, strict=True)
        ]
        if len(logits) > 1:
            said = int(logits.argmax())
            shown = [torch.stack(published.softmax(a))[said] for a in activations]
        else:
            shown = [a[0] for a in activations]
        order = sorted(range(len(part)), key=lambda i: -shown[i].item())
        chosen = order[:count] + (order[-count:] if distil == "maxmins" else [])
        for i in dict.fromkeys(chosen):
            rows.append(x[part[i]])
            behind.append([(part[i], 1.0)])
    return rows, behind, tier1


@pytest.mark.parametrize("distil", ["afs", "maxs", "maxmins"])
@pytest.mark.parametrize(("outputs", "count"), [(1, 1), (3, 2)])
def test_two_tiers_by_hand(distil, outputs, count):
    network, batch = build(outputs, distil=distil, distilled=count), published.batch_of()
    output = network(batch)
    (auxiliary,) = output.auxiliary
    start = 0
    for b, (x, parts) in enumerate(
        zip(published.bags_of(batch), parts_of(network, batch), strict=True)
    ):
        rows, behind, tier1 = distilled_by_hand(network, x, parts, distil, count)
        rows = torch.stack(rows)
        weights = published.softmax(published.gated(network.attention2, rows))
        logits = published.affine(network.head2, published.pooled(rows, weights))
        assert_close(output.logits[b], logits, rtol=1e-5, atol=1e-9)
        found = auxiliary.logits[auxiliary.bag == b]
        assert_close(found, torch.stack(tier1), rtol=1e-5, atol=1e-9)
        attention = torch.zeros(len(x)).double()
        for w, instances in zip(weights, behind, strict=True):
            for i, share in instances:
                attention[i] += w * share
        shown = output.scores[start : start + len(x)].softmax(0)
        assert_close(shown, attention, rtol=1e-5, atol=1e-9)
        start += len(x)


def test_a_bag_is_split_evenly_and_whole():
    batch = published.batch_of()
    for size, parts in zip(published.SIZES, parts_of(build(), batch), strict=True):
        assert sorted(i for part in parts for i in part) == list(range(size))
        assert len(parts) == min(3, size)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_it_is_split_at_random():
    network, counts = build(), Counter()
    for seed in range(200):
        batch = published.batch_of((6,))
        batch.seeds[0] = seed
        (parts,) = parts_of(network, batch)
        counts.update(frozenset(part) for part in parts)
    assert len(counts) == 15  # pairs of six
    assert max(counts.values()) < 3 * min(counts.values())


@pytest.mark.parametrize("distil", ["afs", "maxmins"])
@pytest.mark.parametrize("through", [True, False])
def test_the_gradient_of_tier_two_may_be_cut(distil, through):
    network = build(distil=distil, distil_gradient=through)
    batch = published.batch_of()
    batch.x.requires_grad_()
    logits = network(batch).logits.sum()
    logits.backward()
    assert (batch.x.grad is not None) == through


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distil": "min"}, r"model\.distil to be one of .* got 'min'"),
        ({"distilled": 0}, r"expected model\.distilled of at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
