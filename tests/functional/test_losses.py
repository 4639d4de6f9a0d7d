"""Losses against loops in float64, one bag and one value at a time."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milforge.functional import (
    binary_cross_entropy,
    cross_entropy,
    focal_loss,
    huber_loss,
    known_mean,
    mean_absolute_error,
    mean_squared_error,
)

OF_VALUES = [
    binary_cross_entropy,
    partial(binary_cross_entropy, label_smoothing=0.2),
    cross_entropy,
    focal_loss,
    partial(focal_loss, gamma=0.5),
    mean_squared_error,
    mean_absolute_error,
    huber_loss,
    partial(huber_loss, delta=0.3),
]
OF_CLASSES = [
    cross_entropy,
    partial(cross_entropy, label_smoothing=0.2),
    focal_loss,
    partial(focal_loss, gamma=0.5),
]


def called(loss):
    options = loss.keywords if isinstance(loss, partial) else {}
    return " ".join([name_of(loss), *(f"{name}={value}" for name, value in options.items())])


def name_of(loss):
    return (loss.func if isinstance(loss, partial) else loss).__name__


def make_values(seed=0, bags=9, outputs=3):
    """Logits, and labels some of which are missing; of the last bag all."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(bags, outputs, generator=generator, dtype=torch.float64)
    y = torch.randint(2, (bags, outputs), generator=generator).double()
    y[torch.rand(bags, outputs, generator=generator) < 0.3] = torch.nan
    y[-1] = torch.nan
    return logits, y


def make_classes(seed=0, bags=9, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(bags, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (bags,), generator=generator)


def one_value(loss, logit, y):
    """A loss of one logit, by its formula."""
    options = loss.keywords if isinstance(loss, partial) else {}
    name = name_of(loss)
    p = 1 / (1 + math.exp(-logit))
    difference = abs(logit - y)
    if name in ("binary_cross_entropy", "cross_entropy"):
        t = (1 - options.get("label_smoothing", 0)) * y + options.get("label_smoothing", 0) / 2
        return -t * math.log(p) - (1 - t) * math.log(1 - p)
    if name == "focal_loss":
        p_true = p if y else 1 - p
        return -((1 - p_true) ** options.get("gamma", 2)) * math.log(p_true)
    if name == "huber_loss":
        delta = options.get("delta", 1)
        small = difference <= delta
        return difference**2 / 2 if small else delta * (difference - delta / 2)
    return difference**2 if name == "mean_squared_error" else difference


def one_bag_of_classes(loss, logits, y):
    options = loss.keywords if isinstance(loss, partial) else {}
    name = name_of(loss)
    total = sum(math.exp(each) for each in logits)
    p = [math.exp(each) / total for each in logits]
    if name == "focal_loss":
        return -((1 - p[y]) ** options.get("gamma", 2)) * math.log(p[y])
    s = options.get("label_smoothing", 0)
    targets = [(1 - s) * (c == y) + s / len(p) for c in range(len(p))]
    return -sum(t * math.log(each) for t, each in zip(targets, p, strict=True))


@pytest.mark.parametrize("loss", OF_VALUES, ids=called)
@pytest.mark.parametrize("seed", range(3))
def test_of_values_by_hand(loss, seed):
    logits, y = make_values(seed)
    expected = []
    for row, labels in zip(logits.tolist(), y.tolist(), strict=True):
        each = [one_value(loss, a, b) for a, b in zip(row, labels, strict=True) if b == b]
        expected.append(sum(each) / len(each) if each else 0.0)
    torch.testing.assert_close(
        loss(logits, y), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("loss", OF_CLASSES, ids=called)
@pytest.mark.parametrize("seed", range(3))
def test_of_classes_by_hand(loss, seed):
    logits, y = make_classes(seed)
    expected = [
        one_bag_of_classes(loss, *bag) for bag in zip(logits.tolist(), y.tolist(), strict=True)
    ]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(loss(logits, y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", OF_VALUES, ids=called)
def test_gradients_of_values(loss):
    logits, y = make_values()
    assert torch.autograd.gradcheck(lambda each: loss(each, y), logits.requires_grad_())


@pytest.mark.parametrize("loss", OF_CLASSES, ids=called)
def test_gradients_of_classes(loss):
    logits, y = make_classes()
    assert torch.autograd.gradcheck(lambda each: loss(each, y), logits.requires_grad_())


@pytest.mark.parametrize("loss", OF_VALUES, ids=called)
def test_what_is_missing_has_no_gradient(loss):
    logits, y = make_values()
    logits.requires_grad_()
    loss(logits, y).sum().backward()
    assert not logits.grad[y.isnan()].any()
    assert logits.grad[~y.isnan()].all()


@pytest.mark.parametrize("size", [1e3, 1e4])
@pytest.mark.parametrize("loss", [binary_cross_entropy, cross_entropy, focal_loss], ids=called)
def test_huge_logits(loss, size):
    """Right and certain costs nothing, wrong and certain what it should; no gradient is NaN."""
    logits = torch.tensor([[size], [-size], [size], [-size]], requires_grad=True)
    losses = loss(logits, torch.tensor([[1.0], [0.0], [0.0], [1.0]]))
    torch.testing.assert_close(losses, torch.tensor([0.0, 0.0, size, size]))
    losses.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0], [0.0], [1.0], [-1.0]]))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_huge_logits_of_classes(gamma):
    logits = torch.tensor([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4]], requires_grad=True)
    losses = focal_loss(logits, torch.tensor([0, 2]), gamma)
    torch.testing.assert_close(losses, torch.tensor([0.0, 2e4]))
    losses.sum().backward()
    expected = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])
    torch.testing.assert_close(logits.grad, expected)


@given(
    logits=st.lists(st.floats(-50, 50), min_size=1, max_size=6),
    gamma=st.floats(0, 5),
    smoothing=st.floats(0, 1),
)
def test_laws(logits, gamma, smoothing):
    row = torch.tensor([logits], dtype=torch.float64)
    y = (torch.arange(len(logits)) % 2).double()[None]
    plain = binary_cross_entropy(row, y)
    # focal loss is below cross-entropy, which it is for gamma 0
    assert focal_loss(row, y, gamma) <= plain + 1e-12
    torch.testing.assert_close(focal_loss(row, y, 0.0), plain)
    # two classes by softmax are one by sigmoid
    both = torch.stack([torch.zeros(len(logits), dtype=torch.float64), row[0]], 1)
    for loss in (partial(focal_loss, gamma=gamma), cross_entropy):
        of_classes = loss(both, y[0].long()).mean()
        torch.testing.assert_close(of_classes, loss(row, y)[0], rtol=1e-9, atol=1e-12)
    smoothed = binary_cross_entropy(row, y, smoothing)
    uncertain = binary_cross_entropy(row, torch.full_like(y, 0.5))
    torch.testing.assert_close(smoothed, (1 - smoothing) * plain + smoothing * uncertain)


def test_labels_of_half_precision_logits():
    logits, y = make_values()
    losses = binary_cross_entropy(logits.bfloat16(), y.float())
    torch.testing.assert_close(
        losses.double(), binary_cross_entropy(logits, y), rtol=2e-2, atol=2e-2
    )
    assert binary_cross_entropy(logits, y.float()).dtype == torch.float64


def test_no_bags():
    for loss in (binary_cross_entropy, focal_loss, huber_loss):
        assert loss(torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0,)
    assert focal_loss(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_the_mean_of_nothing_known_is_0():
    losses = torch.ones(1, 2, requires_grad=True)
    mean = known_mean(losses, torch.full((1, 2), torch.nan))
    mean.sum().backward()
    assert (mean.item(), losses.grad.sum().item()) == (0.0, 0.0)


@pytest.mark.parametrize("loss", OF_VALUES, ids=called)
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4,)), ((4, 2), (4, 1))])
def test_other_shapes_of_values_are_refused(loss, shapes):
    """(4, 1) against (4,) would be a table of 16 losses."""
    logits, y = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=r"logits \(B, O\) and float y of that shape, got \(4"):
        loss(logits, y)


@pytest.mark.parametrize("loss", OF_CLASSES, ids=called)
def test_other_shapes_of_classes_are_refused(loss):
    with pytest.raises(ValueError, match=r"y \(B,\) of int64 classes.*int64 \(4, 2\)"):
        loss(torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \(4, 2\) and torch.int32 \(4,\)"):
        loss(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int32))
    with pytest.raises(ValueError, match="at least two classes, got one logit"):
        loss(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("loss", [binary_cross_entropy, mean_squared_error, huber_loss], ids=called)
def test_whole_numbers_are_no_values(loss):
    with pytest.raises(ValueError, match=r"float y of that shape, got .*torch.int64"):
        loss(torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.int64))


def test_options_are_checked():
    values, y = torch.zeros(1, 1), torch.zeros(1, 1)
    for smoothing in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"label_smoothing from 0 to 1, got {smoothing}"):
            binary_cross_entropy(values, y, smoothing)
        with pytest.raises(ValueError, match="label_smoothing from 0 to 1"):
            cross_entropy(torch.zeros(1, 2), torch.zeros(1).long(), smoothing)
    with pytest.raises(ValueError, match="gamma of at least 0, got -1"):
        focal_loss(values, y, -1)
    with pytest.raises(ValueError, match="a positive delta, got 0"):
        huber_loss(values, y, 0)
