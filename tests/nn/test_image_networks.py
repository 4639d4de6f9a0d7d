"""Where to look, and what is there."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from milforge.nn import AttentionCNN, PatchCNN


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("hidden", "kernel"), [((8, 8), 3), ((), 5), ((4,), 1), ((2, 3, 4), 3)])
def test_a_map_is_a_distribution_of_the_size_of_the_image(channels, hidden, kernel):
    torch.manual_seed(0)
    network = AttentionCNN(channels, hidden, kernel)
    attention = network(10 * torch.randn(4, channels, 9, 13))
    assert attention.shape == (4, 9, 13)
    assert (attention >= 0).all()
    torch.testing.assert_close(attention.sum((1, 2)), torch.ones(4))
    assert attention.flatten(1).std(1).min() > 0


def test_attention_is_convolutions_with_tanh_and_a_softmax():
    torch.manual_seed(0)
    network = AttentionCNN(2, (4, 3)).double()
    x = torch.randn(3, 2, 7, 6, dtype=torch.float64)
    *hidden, last = (layer for layer in network.layers if isinstance(layer, nn.Conv2d))
    out = x
    for layer in hidden:
        out = torch.tanh(F.conv2d(out, layer.weight, layer.bias, padding=1))
    scores = F.conv2d(out, last.weight, last.bias, padding=1)[:, 0]
    exponentials = scores.exp()
    torch.testing.assert_close(
        network(x), exponentials / exponentials.sum((1, 2), keepdim=True), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_cell_sees_its_neighbourhood_alone(kernel):
    """Three layers, so a reach of three times half the kernel; the padding keeps the centre."""
    torch.manual_seed(0)
    network = AttentionCNN(1, kernel=kernel).double()
    x = torch.randn(1, 1, 31, 31, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, 14, 16] += 1
    # Ratios of cells are differences of scores, which the sum of all does not touch.
    before, after = (network(each)[0].log() for each in (x, changed))
    moved = (after - after[0, 0] - before + before[0, 0]).abs() > 1e-12
    rows, columns = moved.nonzero().T
    reach = 3 * (kernel // 2)
    assert (int(rows.min()), int(rows.max())) == (14 - reach, 14 + reach)
    assert (int(columns.min()), int(columns.max())) == (16 - reach, 16 + reach)


def test_attention_moves_with_the_image():
    """Away from the border, where the padding shows."""
    torch.manual_seed(0)
    network = AttentionCNN(1).double()
    x = torch.zeros(1, 1, 30, 30, dtype=torch.float64)
    x[0, 0, 8:14, 10:15] = torch.rand(6, 5, dtype=torch.float64)
    attention, moved = (network(each)[0] for each in (x, x.roll((5, 3), (2, 3))))
    torch.testing.assert_close(moved[8:25, 8:25], attention[3:20, 5:22], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_probabilities_are_of_float32_at_least(low):
    torch.manual_seed(0)
    network, x = AttentionCNN(1), torch.rand(2, 1, 50, 50)
    expected = network(x)
    assert expected.dtype == torch.float32
    assert network.double()(x.double()).dtype == torch.float64
    with torch.autocast("cpu", low):
        attention = network.float()(x)
    assert attention.dtype == torch.float32
    torch.testing.assert_close(attention.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(attention, expected, rtol=0.1, atol=0)
    assert network.to(torch.bfloat16)(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("build", [AttentionCNN, PatchCNN])
def test_gradients_reach_every_parameter_and_the_image(build):
    torch.manual_seed(0)
    network = build(2).double()
    x = torch.rand(3, 2, 20, 21, dtype=torch.float64, requires_grad=True)
    out = network(x)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in network.named_parameters():
        if build is AttentionCNN and name == "layers.4.bias":
            # The softmax takes a constant out again.
            assert parameter.grad.abs().max() < 1e-12
        else:
            assert parameter.grad.abs().max() > 0, name
            assert parameter.grad.isfinite().all(), name
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (8, 0)}, r"hidden widths of at least 1, got \[8, 0\]"),
        ({"kernel": 4}, "an odd kernel, so that it can be padded, got 4"),
        ({"kernel": 0}, "an odd kernel.* got 0"),
        ({"kernel": -1}, "an odd kernel.* got -1"),
    ],
)
def test_an_attention_network_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionCNN(1, **options)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_patches_become_features_of_a_length(stride):
    torch.manual_seed(0)
    network = PatchCNN(3, width=5, stride=stride, length=2.5).double()
    x = torch.randn(4, 3, 26, 31, dtype=torch.float64)
    assert network.out_dim == 5
    out = x
    convolutions = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert [tuple(each.kernel_size) for each in convolutions] == [(7, 7)] + [(3, 3)] * 3
    for number, layer in enumerate(convolutions):
        step = 1 if number else stride
        out = F.conv2d(out, layer.weight, layer.bias, stride=step).clamp(min=0)
    most = out.flatten(2).max(2).values
    expected = 2.5 * most / most.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(network(x).norm(dim=1), torch.full((4,), 2.5).double())


def test_a_patch_network_has_the_size_of_the_paper():
    expected = (49 + 1) * 32 + 3 * (32 * 9 + 1) * 32
    assert sum(p.numel() for p in PatchCNN(1).parameters()) == expected


def test_features_do_not_depend_on_the_other_patches():
    torch.manual_seed(0)
    network, x = PatchCNN(1, width=4).double(), torch.rand(5, 1, 14, 14, dtype=torch.float64)
    torch.testing.assert_close(network(x[2:3]), network(x)[2:3])
    assert network(x[:0]).shape == (0, 4)


def test_a_digit_is_found_wherever_it_lies_in_its_patch():
    """The maximum over the patch forgets the place, away from the border."""
    torch.manual_seed(0)
    network = PatchCNN(1, width=6).double()
    x = torch.zeros(1, 1, 60, 60, dtype=torch.float64)
    x[0, 0, 20:30, 20:30] = torch.rand(10, 10, dtype=torch.float64)
    torch.testing.assert_close(network(x.roll((9, 4), (2, 3))), network(x))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_smallest_patch_is_exactly_that(stride):
    network = PatchCNN(1, width=2, stride=stride)
    least = 7 + 6 * stride
    assert network(torch.rand(1, 1, least, least)).shape == (1, 2)
    assert network.layers(torch.rand(1, 1, least, least)).shape[2:] == (1, 1)
    message = rf"patches of at least {least} x {least} pixels, got {least} x {least - 1}; raise "
    with pytest.raises(ValueError, match=message):
        network(torch.rand(1, 1, least, least - 1))
    with pytest.raises(RuntimeError, match="Kernel size"):  # the layers themselves agree
        network.layers(torch.rand(1, 1, least, least - 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width and stride of at least 1, got 0 and 1"),
        ({"stride": 0}, "width and stride of at least 1, got 32 and 0"),
        ({"length": 0.0}, "a length of the features above 0, got 0"),
    ],
)
def test_a_patch_network_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PatchCNN(1, **options)
