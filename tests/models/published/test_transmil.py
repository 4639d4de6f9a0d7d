import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

import published
from milforge.data import Bag, collate_bags
from milforge.models import TransMIL
from milforge.models.published.instance_order import instance_order
from milforge.models.published.transmil import PPEG


def build(**options):
    return published.build(TransMIL, heads=2, **options)


def squared(x):
    """The instances, and the first ones again till a square is full."""
    side = math.ceil(math.sqrt(len(x)))
    return torch.cat([x, x[: side * side - len(x)]])


def encoded(ppeg, x):
    """One square, convolution after convolution."""
    side = math.isqrt(len(x))
    image = x.T.reshape(1, -1, side, side)
    for_each = [ppeg.convolution7(image), ppeg.convolution5(image), ppeg.convolution3(image)]
    return (image + sum(for_each)).flatten(2)[0].T


def test_the_layers_in_their_order():
    """The attention itself has a test of its own."""
    network, batch = build(), published.batch_of()
    output, logits, scores = network(batch), [], []
    for x in published.bags_of(batch):
        rows = torch.cat([network.token.token[None], squared(x)])
        ptr = torch.tensor([0, len(rows)])
        rows = rows + network.layer1(network.norm1(rows), ptr)[0]
        rows = torch.cat([rows[:1], encoded(network.ppeg, rows[1:])])
        out, first = network.layer2(network.norm2(rows), ptr)
        token = (rows + out)[0]
        logits.append(published.affine(network.head, network.norm(token)))
        weights = first[1 : len(x) + 1].clone()
        again = first[len(x) + 1 :]
        weights[: len(again)] += again
        scores.append(weights.clamp(min=torch.finfo(weights.dtype).tiny).log())
    assert_close(output.logits, torch.stack(logits), rtol=1e-5, atol=1e-9)
    assert_close(output.scores, torch.cat(scores), rtol=1e-5, atol=1e-9)


def test_ppeg_is_a_sum_of_convolutions_and_leaves_the_token_alone():
    torch.manual_seed(0)
    ppeg = PPEG(3).double()
    x = torch.randn(5 + 10, 3).double()
    found = ppeg(x, torch.tensor([0, 5, 15]))
    assert_close(found[1:5], encoded(ppeg, x[1:5]))
    assert_close(found[6:], encoded(ppeg, x[6:]))
    assert torch.equal(found[[0, 5]], x[[0, 5]])
    image = x[6:].T.reshape(1, 3, 3, 3)
    c = ppeg.convolution3
    one = F.conv2d(image[:, :1], c.weight[:1], c.bias[:1], padding=1)
    assert_close(c(image)[:, :1], one)


def test_coords_give_the_order():
    network = build(order="coords")
    assert network.permutation == "invariant"
    assert build().permutation == "order"
    batch = published.batch_of((9, 4))
    places = torch.tensor([[n % 3, n // 3] for n in range(9)] + [[n % 2, n // 2] for n in range(4)])
    ordered = replace(batch, coords=places.float())
    expected = network(ordered)
    assert_close(expected.logits, build()(batch).logits)  # they came line by line
    turn = torch.cat([torch.randperm(9), 9 + torch.randperm(4)])
    turned = network(replace(ordered, x=batch.x[turn], coords=ordered.coords[turn]))
    assert_close(turned.logits, expected.logits)
    assert_close(turned.scores, expected.scores[turn])


def test_one_slide_of_a_patient_comes_after_the_other():
    """Their coords begin anew with each, and would be interleaved."""
    coords = torch.tensor([[1, 0], [0, 0], [0, 1]])
    slide = torch.tensor([0, 0, 0, 1, 1, 1])
    bags = [
        Bag(torch.zeros(6, 2), 0, coords=coords.repeat(2, 1), slide=slide),
        Bag(torch.zeros(3, 2), 0, coords=coords, slide=slide[:3]),
    ]
    rows = instance_order(collate_bags(bags), "coords")
    assert rows.tolist() == [1, 0, 2, 4, 3, 5, 7, 6, 8]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"model\.order to be one of .* got 'random'"):
        build(order="random")
    with pytest.raises(ValueError, match=r"expected model\.landmarks of at least 1, got 0"):
        build(landmarks=0)
    with pytest.raises(ValueError, match=r"coords for model\.order=coords, got none"):
        build(order="coords")(published.batch_of())


def test_half_the_width_of_the_instances_are_landmarks():
    assert build().layer1.landmarks == 3
    assert build(landmarks=5).layer2.landmarks == 5
