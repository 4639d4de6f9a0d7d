import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import ILRA


def attend(attention, queries, keys):
    layers = ((attention.q, queries), (attention.k, keys), (attention.v, keys))
    q, k, v = (published.affine(layer, rows) for layer, rows in layers)
    attended, weights = published.attended(q, k, v, attention.heads)
    out = published.affine(attention.project, queries) + published.affine(attention.out, attended)
    out = attention.norm1(out)
    out = attention.norm2(out + published.affine(attention.hidden, out).clamp(min=0))
    if attention.gate is not None:
        gate = published.affine(attention.gate, queries)
        out = out * gate / (1 + (-gate).exp())
    return out, weights


@pytest.mark.parametrize(("heads", "norm"), [(2, True), (2, False), (4, True)])
def test_it_is_made_of_multi_head_attention(heads, norm):
    network = published.build(ILRA, heads=heads, rank=3, norm=norm)
    batch = published.batch_of((9, 1, 2, 5))
    output, expected, start = network(batch), [], 0
    for x in published.bags_of(batch):
        rows = x
        for latents, gather, spread in zip(
            network.latents, network.gather, network.spread, strict=True
        ):
            few, _ = attend(gather, latents, rows)
            rows, _ = attend(spread, rows, few)
        z, weights = attend(network.pooling, network.seed, rows)
        expected.append(published.affine(network.head, z[0]))
        shown = output.scores[start : start + len(x)].softmax(0).mean(1)
        assert_close(shown, weights[0], rtol=1e-5, atol=1e-9)
        start += len(x)
    assert_close(output.logits, torch.stack(expected), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("options", [{"rank": 0}, {"heads": 7}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=r"expected model\.(rank of at least 1, got 0|heads)"):
        published.build(ILRA, **{"heads": 2, **options})
