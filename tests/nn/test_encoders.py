import pytest
import torch
from torch import nn

from milforge.nn import IdentityEncoder, LeNetEncoder, MLPEncoder


def test_identity_leaves_vectors_alone():
    encoder = IdentityEncoder((7,))
    x = torch.randn(3, 7)
    assert encoder.out_dim == 7
    assert encoder(x) is x


@pytest.mark.parametrize("shape", [(5,), (1, 8, 8), (2, 3)])
def test_mlp_is_dense_layers_with_relu(shape):
    encoder = MLPEncoder(shape, hidden=(6, 4))
    x = torch.randn(3, *shape)
    first, second = (layer for layer in encoder if isinstance(layer, nn.Linear))
    hidden = (x.flatten(1) @ first.weight.T + first.bias).clamp(min=0)
    expected = (hidden @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(encoder(x), expected)
    assert encoder.out_dim == 4


def test_dropout_follows_each_layer():
    encoder = MLPEncoder((4,), hidden=(50, 30), dropout=0.9)
    kinds = [type(layer) for layer in encoder]
    assert kinds == [nn.Flatten] + [nn.Linear, nn.ReLU, nn.Dropout] * 2
    x = torch.randn(5, 4)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 20), (1, 17, 16)])
def test_lenet_gives_500_features(shape):
    encoder = LeNetEncoder(shape)
    assert encoder.out_dim == 500
    assert encoder(torch.randn(2, *shape)).shape == (2, 500)


def test_lenet_has_the_size_of_the_paper():
    convolutions = (1 * 25 + 1) * 20 + (20 * 25 + 1) * 50
    dense = (50 * 4 * 4 + 1) * 500
    encoder = LeNetEncoder((1, 28, 28))
    assert sum(p.numel() for p in encoder.parameters()) == convolutions + dense


@pytest.mark.parametrize(
    ("build", "shape"),
    [(IdentityEncoder, (6,)), (MLPEncoder, (1, 8, 8)), (LeNetEncoder, (1, 16, 16))],
)
def test_no_instance_gives_no_vector(build, shape):
    encoder = build(shape)
    assert encoder(torch.zeros(0, *shape)).shape == (0, encoder.out_dim)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: IdentityEncoder((1, 28, 28)), r"feature vectors, got .* \(1, 28, 28\); .*=mlp"),
        (lambda: LeNetEncoder((784,)), r"images of shape .* got instances of shape \(784,\)"),
        (lambda: LeNetEncoder((1, 15, 28)), r"at least 16, got instances of shape \(1, 15, 28\)"),
        (lambda: MLPEncoder((4,), hidden=()), r"at least 1, got \[\]"),
        (lambda: MLPEncoder((4,), hidden=(3, 0)), r"at least 1, got \[3, 0\]"),
        (lambda: MLPEncoder((4,), dropout=-0.1), "between 0 and 1, but got -0.1"),
        (lambda: MLPEncoder((4,), dropout=1.5), "between 0 and 1, but got 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
