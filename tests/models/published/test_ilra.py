import pytest
import torch
from torch import nn
from torch.testing import assert_close

import published
from milforge.models import ILRA


def theirs(attention):
    """The same multi-head attention of PyTorch's own."""
    layers = (attention.q, attention.k, attention.v)
    twin = nn.MultiheadAttention(6, attention.heads, batch_first=True).double()
    twin.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.weight for layer in layers]),
            "in_proj_bias": torch.cat([layer.bias for layer in layers]),
            "out_proj.weight": attention.out.weight,
            "out_proj.bias": attention.out.bias,
        }
    )
    return twin


def attend(attention, queries, keys):
    attended, weights = theirs(attention)(queries[None], keys[None], keys[None])
    out = attention.norm1(published.affine(attention.project, queries) + attended[0])
    out = attention.norm2(out + published.affine(attention.hidden, out).clamp(min=0))
    if attention.gate is not None:
        gate = published.affine(attention.gate, queries)
        out = out * gate / (1 + (-gate).exp())
    return out, weights[0]


@pytest.mark.parametrize("norm", [True, False])
def test_it_is_made_of_multi_head_attention(norm):
    network = published.build(ILRA, heads=2, rank=3, norm=norm)
    batch = published.batch_of()
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


@pytest.mark.parametrize("options", [{"rank": 0}, {"heads": 4}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=r"expected model\.(rank of at least 1, got 0|heads)"):
        published.build(ILRA, **{"heads": 2, **options})
