import pytest
import torch
from torch import nn
from torch.testing import assert_close

import published
from milforge.models import Transformer


def theirs(layer):
    """The same layer of PyTorch's own."""
    dim = layer.out.in_features
    twin = nn.TransformerEncoderLayer(
        dim, layer.heads, layer.mlp[0].out_features, 0.0, "gelu", batch_first=True, norm_first=True
    ).double()
    pairs = {
        "self_attn.in_proj_weight": layer.qkv.weight,
        "self_attn.in_proj_bias": layer.qkv.bias,
        "self_attn.out_proj.weight": layer.out.weight,
        "self_attn.out_proj.bias": layer.out.bias,
        "linear1.weight": layer.mlp[0].weight,
        "linear1.bias": layer.mlp[0].bias,
        "linear2.weight": layer.mlp[3].weight,
        "linear2.bias": layer.mlp[3].bias,
        "norm1.weight": layer.norm1.weight,
        "norm1.bias": layer.norm1.bias,
        "norm2.weight": layer.norm2.weight,
        "norm2.bias": layer.norm2.bias,
    }
    twin.load_state_dict(pairs)
    return twin.train()  # its fast path of evaluation warns


def test_the_last_bag_may_have_no_instance():
    network = published.build(Transformer, heads=2, mlp_dim=5, readout="mean")
    logits, alone = (network(published.batch_of(sizes)).logits for sizes in ((4, 0), (4,)))
    assert_close(logits[:1], alone)
    assert_close(logits[1], network.head.bias)


@pytest.mark.parametrize("readout", ["token", "mean"])
def test_layers_are_those_of_pytorch(readout):
    network = published.build(Transformer, heads=2, mlp_dim=5, readout=readout)
    batch = published.batch_of()
    output, expected, scores = network(batch), [], []
    for x in published.bags_of(batch):
        rows = x if readout == "mean" else torch.cat([network.token.token[None], x])
        for layer in network.layers:
            before = rows
            rows = theirs(layer)(rows[None])[0]
        rows = network.norm(rows)
        expected.append(network.head(rows.mean(0) if readout == "mean" else rows[0]))
        if readout == "token":
            seen = layer.norm1(before)
            q, k, _ = published.affine(layer.qkv, seen).chunk(3, dim=1)
            shown = [(q[0, h] * k[1:, h]).sum(1) / 3**0.5 for h in (slice(0, 3), slice(3, 6))]
            scores.append(torch.stack(shown, dim=1))
    assert_close(output.logits, torch.stack(expected), rtol=1e-5, atol=1e-9)
    if readout == "mean":
        assert output.scores is None
    else:
        assert_close(output.scores, torch.cat(scores), rtol=1e-5, atol=1e-9)


def test_heads_that_do_not_divide_the_width_are_narrower():
    network, batch = published.build(Transformer, heads=4, mlp_dim=5), published.batch_of((3, 1))
    layer = network.layers[0]
    with torch.no_grad():
        found, scores = layer(batch.x, batch.ptr)
        expected, shown = [], []
        for x in published.bags_of(batch):
            q, k, v = published.affine(layer.qkv, layer.norm1(x)).chunk(3, dim=1)
            assert q.shape[1] == 4
            x = x + published.affine(layer.out, published.attended(q, k, v, 4)[0])
            expected.append(x + layer.mlp(layer.norm2(x)))
            shown.append(q[:1] * k)
    assert_close(found, torch.cat(expected))
    assert_close(scores, torch.cat(shown))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 7}, r"expected model\.heads of 1 to 6, the width of the instances, got 7"),
        ({"readout": "max"}, r"model\.readout to be one of .* got 'max'"),
        ({"layers": 0}, r"expected model\.layers of at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        published.build(Transformer, **options)
