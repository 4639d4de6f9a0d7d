import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import WiKG
from milforge.models.published import wikg


def leaky(x):
    return torch.where(x > 0, x, 0.01 * x)


def by_hand(network, x, interaction):
    x = (x + x.mean(0)) / 2
    e, t = published.affine(network.heads, x), published.affine(network.tails, x)
    rows = []
    for i in range(len(x)):
        likeness = [e[i] @ t[j] / e.shape[1] ** 0.5 for j in range(len(x))]
        near = sorted(range(len(x)), key=lambda j: -likeness[j].item())[:4]
        p = published.softmax([likeness[j] for j in near])
        u = []
        for share, j in zip(p, near, strict=True):
            gate = (e[i] + share * t[j] + (1 - share) * e[i]).tanh()
            u.append(t[j].sum() * gate.sum() if interaction == "published" else t[j] @ gate)
        gathered = published.pooled(t[near], published.softmax(u))
        summed = leaky(published.affine(network.sums, e[i] + gathered))
        rows.append(summed + leaky(published.affine(network.products, e[i] * gathered)))
    rows = torch.stack(rows)
    first, _, last = network.attention
    scores = published.affine(last, leaky(published.affine(first, rows)))[:, 0]
    z = published.pooled(rows, published.softmax(scores))
    z = (z - z.mean()) / (z.var(correction=0) + 1e-5).sqrt()
    return published.affine(network.head, z * network.norm.weight + network.norm.bias), scores


@pytest.mark.parametrize("interaction", ["paper", "published"])
@pytest.mark.parametrize("chunk", [wikg._CHUNK, 50])
def test_brute_force(interaction, chunk, monkeypatch):
    monkeypatch.setattr(wikg, "_CHUNK", chunk)
    network = published.build(WiKG, dim=5, neighbours=4, interaction=interaction)
    batch = published.batch_of()
    output = network(batch)
    each = [by_hand(network, x, interaction) for x in published.bags_of(batch)]
    assert_close(output.logits, torch.stack([z for z, _ in each]), rtol=1e-5, atol=1e-9)
    assert_close(output.scores, torch.cat([f for _, f in each]), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, r"expected model\.neighbours of at least 1, got 0"),
        ({"interaction": "product"}, r"model\.interaction to be one of .* got 'product'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        published.build(WiKG, **options)
