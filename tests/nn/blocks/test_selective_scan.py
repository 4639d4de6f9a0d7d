import torch
from torch.nn import functional as F
from torch.testing import assert_close

import reference
from milforge.nn.blocks import selective_scan
from milforge.nn.blocks.selective_scan import SelectiveScan


def by_hand(layer, x):
    """Instance after instance of one bag."""
    kernel = layer.conv.weight.shape[2]
    padded = torch.cat([torch.zeros(kernel - 1, x.shape[1]).double(), x])
    state = torch.zeros_like(layer.log_decay)
    rows = []
    for t in range(len(x)):
        u = layer.conv.bias.clone()
        for j in range(kernel):
            u = u + layer.conv.weight[:, 0, j] * padded[t + j]
        u = u / (1 + (-u).exp())
        rank, size = layer.step.in_features, layer.log_decay.shape[1]
        steer = u @ layer.steer.weight.T
        b, c = steer[rank : rank + size], steer[rank + size :]
        dt = (1 + (steer[:rank] @ layer.step.weight.T + layer.step.bias).exp()).log()
        decay = (-dt[:, None] * layer.log_decay.exp()).exp()
        state = decay * state + (dt * u)[:, None] * b
        rows.append(state @ c + layer.skip * u)
    return torch.stack(rows)


def make():
    torch.manual_seed(0)
    layer = SelectiveScan(5, state=3, rank=2).double()
    with torch.no_grad():
        layer.step.bias.normal_()
    return layer


def test_instance_after_instance(monkeypatch):
    monkeypatch.setattr(selective_scan, "_BLOCK", 2)
    layer = make()
    x, ptr = reference.make_bags((7, 1, 0, 12), 5)
    expected = [by_hand(layer, bag) for bag in reference.split(x, ptr) if len(bag)]
    assert_close(layer(x, ptr), torch.cat(expected), rtol=1e-5, atol=1e-9)


def test_steps_begin_between_a_thousandth_and_a_tenth():
    steps = F.softplus(SelectiveScan(100).step.bias)
    assert steps.min() > 0.00099
    assert steps.max() < 0.101


def test_gradients():
    layer = make()
    x, ptr = reference.make_bags((4, 1), 5)
    assert torch.autograd.gradcheck(lambda rows: layer(rows, ptr), x.requires_grad_())
