import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import AdditiveABMIL


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_the_logits_are_the_sum_of_what_each_instance_says(hidden):
    network, batch = published.build(AdditiveABMIL, hidden=hidden), published.batch_of()
    output = network(batch)
    said = network.contributions(batch)
    expected, each = [], []
    for x in published.bags_of(batch):
        scores = published.gated(network.attention, x)
        weights = published.softmax(scores)
        parts = []
        for w, instance in zip(weights, x, strict=True):
            v = w * instance
            if hidden:
                v = published.affine(network.hidden[1], v).clamp(min=0)
            parts.append(published.affine(network.head, v))
        expected.append(sum(parts))
        each += parts
    assert_close(output.logits, torch.stack(expected), rtol=1e-5, atol=1e-9)
    assert_close(said, torch.stack(each), rtol=1e-5, atol=1e-9)
