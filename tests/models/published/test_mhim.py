import math

import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import MHIM


def build(**options):
    return published.build(MHIM, att_dim=4, **options)


def test_evaluation_is_plain_attention():
    network, batch = build(), published.batch_of()
    expected = []
    for x in published.bags_of(batch):
        weights = published.softmax(published.gated(network.attention, x))
        expected.append(published.affine(network.head, published.pooled(x, weights)))
    assert_close(network(batch).logits, torch.stack(expected), rtol=1e-5, atol=1e-9)


def test_a_training_step_by_hand():
    network = build(hide_high=0.2, hide_low=0.1, hide_random=0.5).train()
    with torch.no_grad():
        for parameter in network.teacher.parameters():
            parameter.add_(torch.randn_like(parameter))
        network.step += 1  # in the first step it would be a copy
    network.momentum = 1.0
    batch = published.batch_of()
    output = network(batch)
    apart, start = [], 0
    for b, x in enumerate(published.bags_of(batch)):
        taught = published.gated(network.teacher["attention"], x)
        order = sorted(range(len(x)), key=lambda i: -taught[i].item())
        high, low = int(0.2 * len(x)), int(0.1 * len(x))
        hidden = output.scores[start : start + len(x)].isneginf().nonzero()[:, 0].tolist()
        easy = {*order[:high], *order[len(x) - low :]}
        assert easy <= set(hidden)
        assert len(hidden) == len(easy) + int(0.5 * (len(x) - high - low))
        seen = [i for i in range(len(x)) if i not in hidden]
        weights = published.softmax(published.gated(network.attention, x[seen]))
        z = published.pooled(x[seen], weights)
        assert_close(output.logits[b], published.affine(network.head, z), rtol=1e-5, atol=1e-9)
        whole = published.pooled(x, published.softmax(taught))
        target = torch.stack(published.softmax(whole / 0.1))
        apart.append(-(target * torch.stack(published.softmax(z)).log()).sum())
        start += len(x)
    assert_close(output.penalty, 0.1 * sum(apart) / len(apart), rtol=1e-5, atol=1e-9)


def test_the_teacher_is_the_moving_average():
    network, batch = build(momentum=0.75).train(), published.batch_of()
    own, its = network.attention.fc1.weight, network.teacher["attention"].fc1.weight
    followed = own.detach().clone()
    network(batch)
    assert torch.equal(its, followed)  # there was no step yet
    for step in range(3):
        with torch.no_grad():
            own.add_(step + 1.0)
        network(batch)
        followed = 0.75 * followed + 0.25 * own.detach()
        assert_close(its, followed)
    network.eval()(batch)
    assert_close(its, followed)
    assert not network.teacher.training


def test_the_teacher_begins_with_the_weights_that_the_network_begins_with():
    """Those of `init_from`, of another model that has no teacher."""
    network = build().train()
    weights = {n: w + 1 for n, w in network.state_dict().items() if n.startswith("encoder.")}
    weights["attention.fc1.weight"] = network.attention.fc1.weight + 1
    network.load_state_dict(weights, strict=False)
    network(published.batch_of())
    its = network.teacher.state_dict()
    assert all(torch.equal(its[name], weight) for name, weight in weights.items())


def test_the_teacher_normalises_by_the_statistics_of_the_network():
    torch.manual_seed(0)

    class Encoder(torch.nn.BatchNorm1d):
        out_dim = published.WIDTH

    network = MHIM((6,), 3, encoder=lambda shape: Encoder(*shape), att_dim=4).double().train()
    network(published.batch_of())
    its = network.teacher["encoder"]
    assert network.encoder.running_mean.abs().max() > 0
    assert torch.equal(its.running_mean, network.encoder.running_mean)
    assert torch.equal(its.running_var, network.encoder.running_var)


def test_the_share_that_is_hidden_falls_along_a_cosine():
    options = {"hide_high": 0.4, "hide_random": 0.0, "decay_steps": 4}
    network, batch = build(**options).train(), published.batch_of((100,))
    for step in range(6):
        expected = int(100 * 0.2 * (1 + math.cos(math.pi * min(1, (step + 1) / 4))))
        assert int(network(batch).scores.isneginf().sum()) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hide_high": 0.6, "hide_low": 0.4}, r"got 0\.6 \+ 0\.4 and 0\.5"),
        ({"hide_random": 1.0}, "and 1.0"),
        ({"momentum": 2.0}, r"model\.momentum from 0 to 1, got 2"),
    ],
)
def test_shares_that_hide_all_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
