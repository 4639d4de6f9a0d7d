import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import MambaMIL


def strided(n, stride):
    return [i for first in range(stride) for i in range(first, n, stride)]


def test_two_readings_of_each_layer():
    """The scan itself has a test of its own."""
    network = published.build(MambaMIL, stride=4, state=3, att_dim=4)
    batch = published.batch_of()
    output, logits, scores = network(batch), [], []
    for x in published.bags_of(batch):
        ptr, order = torch.tensor([0, len(x)]), strided(len(x), 4)
        for layer in network.layers:
            u, v = (layer.norm(x) @ layer.enter.weight.T).chunk(2, dim=1)
            read = layer.strided(torch.stack([u[i] for i in order]), ptr)
            back = torch.stack([read[order.index(i)] for i in range(len(x))])
            gate = v / (1 + (-v).exp())
            x = x + ((layer.scan(u, ptr) + back) * gate) @ layer.leave.weight.T
        x = network.norm(x)
        shown = published.gated(network.attention, x)
        z = published.pooled(x, published.softmax(shown))
        logits.append(published.affine(network.head, z))
        scores += shown
    assert_close(output.logits, torch.stack(logits), rtol=1e-5, atol=1e-9)
    assert_close(output.scores, torch.stack(scores), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, r"expected model\.stride of at least 1, got 0"),
        ({"order": "size"}, r"model\.order to be one of .* got 'size'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        published.build(MambaMIL, **options)
