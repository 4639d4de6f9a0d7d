"""Operators on a device, forward and backward, against float64 on the CPU."""

from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close

import reference
from milforge.functional import segment_max, segment_softmax, segment_weighted_sum
from milforge.functional.sm import sm_approx, sm_exact
from milforge.nn import AttentionPool
from milforge.sampling import expectation

# Many lack a deterministic implementation on a GPU, and say so.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*deterministic")

DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
SIZES = {"bags": (300, 0, 1, 40), "no instance": (0, 0), "no bag": ()}


@pytest.fixture(autouse=True)
def _deterministic():
    """Deterministic algorithms also fill with NaN all that an operator leaves unset."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def normal(*shape):
    """Float64 that float32 holds exactly."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).double()


def few(*shape):
    """Of five values, so that there are ties."""
    return normal(*shape).round().clamp(-2, 2)


def gradients(function, inputs):
    """The value of a function and its gradients of the inputs, for a gradient of both signs."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    out = function(*leaves)
    out.backward(normal(*out.shape).to(out))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def check(device, function, *inputs):
    """Compares a function in float32 on a device with itself in float64 on the CPU."""
    expected = gradients(function, inputs)
    found = gradients(function, [each.float().to(device) for each in inputs])
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.device.type, ours.dtype) == (device, torch.float32)
        assert_close(ours.cpu().double(), theirs, rtol=1e-4, atol=1e-4)


@DEVICES
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_segments(device, sizes):
    n, ptr = sum(sizes), torch.tensor([0, *sizes]).cumsum(0)
    check(device, lambda f: segment_softmax(f, ptr.to(f.device)), 3 * normal(n))
    check(device, lambda x: segment_max(x, ptr.to(x.device)), few(n, 6))
    check(
        device,
        lambda x, w: segment_weighted_sum(x, w, ptr.to(x.device)),
        normal(n, 6),
        normal(n, 2)[:, 1],
    )


@DEVICES
@pytest.mark.parametrize("smooth", [sm_approx, sm_exact])
@pytest.mark.parametrize("sizes", [(60, 1, 20), (0,)], ids=["bags", "no instance"])
@pytest.mark.parametrize("width", [(), (5,)])
def test_smoothing(device, smooth, sizes, width):
    adj = reference.make_graph(sizes, how="rw", density=0.1).to_sparse_csr()
    strength = torch.tensor(0.75, dtype=torch.float64)
    u = normal(sum(sizes), *width)
    check(device, lambda u, strength: smooth(u, adj.to(u.device), strength), u, strength)
    check(device, lambda u: smooth(u, adj.to(u.device), strength.to(u)), u)


@DEVICES
@pytest.mark.parametrize("estimator", ["unordered", "ordered", "published"])
@pytest.mark.parametrize("images", [3, 0])
def test_expectation(device, estimator, images):
    probabilities = normal(images, 30).softmax(1)[:, :10].float().double()
    check(
        device,
        lambda f, p: expectation(f, p, estimator=estimator),
        normal(images, 10, 4),
        probabilities,
    )


@DEVICES
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_attention_pool_under_autocast(device, gated, sizes):
    torch.manual_seed(0)
    exact = AttentionPool(16, 8, gated=gated).double()
    pool = deepcopy(exact).float().to(device)
    x, ptr = normal(sum(sizes), 16), torch.tensor([0, *sizes]).cumsum(0)
    expected = gradients(lambda x: exact(x, ptr=ptr), [x])
    with torch.autocast(device, dtype=torch.bfloat16):
        found = gradients(lambda x: pool(x, ptr=ptr.to(device)), [x.float().to(device)])
    found += [each.grad for each in pool.parameters()]
    expected += [each.grad for each in exact.parameters()]
    for ours, theirs in zip(found, expected, strict=True):
        # bfloat16 has 8 bits, so that each number is off by up to 0.4 %, and sums that cancel, as
        # those of the gradients, by more.
        assert ours.device.type == device
        assert float((ours.cpu().double() - theirs).norm()) <= 0.05 * float(theirs.norm())
