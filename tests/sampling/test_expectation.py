"""Everything is held against the full expectation, by enumeration of all draws, in float64."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from milforge.sampling import Expectation, expectation
from milforge.sampling.expectation import expectation_weights

ATTENTIONS = {
    "uniform": [0.2] * 5,
    "moderate": [0.35, 0.25, 0.2, 0.15, 0.05],
    "peaked": [0.9, 0.05, 0.03, 0.015, 0.005],
    "extreme": [0.7, 0.2, 0.1 - 2e-9, 1e-9, 1e-9],
}
ESTIMATORS = ("unordered", "ordered", "published")


def plackett_luce(p, draw):
    """Probability of drawing these cells in this order, without replacement."""
    chance = 1.0
    for k, cell in enumerate(draw):
        # What is left is added up, not subtracted from 1, where cells of 1e-9 would be lost.
        chance *= p[cell] / math.fsum(p[c] for c in range(len(p)) if c not in draw[:k])
    return chance


def problem(name, width=3):
    generator = torch.Generator().manual_seed(len(name))
    logits = torch.tensor(ATTENTIONS[name], dtype=torch.float64).log().requires_grad_()
    features = torch.randn(5, width, generator=generator, dtype=torch.float64).requires_grad_()
    cotangent = torch.randn(width, generator=generator, dtype=torch.float64)
    return logits, features, cotangent


def derivatives(value, logits, features, cotangent):
    grads = torch.autograd.grad((value * cotangent).sum(), [logits, features])
    return value.detach(), *grads


def whole(logits, features, cotangent):
    """Value and gradients of the full expectation."""
    return derivatives(logits.softmax(0) @ features, logits, features, cotangent)


def enumerated(name, n, replace=False, **options):
    """Value and gradients of the estimator, averaged over all draws by their probability."""
    logits, features, cotangent = problem(name)
    a = logits.softmax(0)
    p = a.tolist()
    if replace:
        draws = list(itertools.product(range(5), repeat=n))
        chances = [math.prod(p[cell] for cell in draw) for draw in draws]
    else:
        draws = list(itertools.permutations(range(5), n))
        chances = [plackett_luce(p, draw) for draw in draws]
    assert sum(chances) == pytest.approx(1, abs=1e-9)
    cells = torch.tensor(draws)
    values = expectation(features[cells], a[cells], replace=replace, **options)
    mean = torch.tensor(chances, dtype=torch.float64) @ values
    return derivatives(mean, logits, features, cotangent), whole(logits, features, cotangent)


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("estimator", ["unordered", "ordered"])
def test_value_and_gradients_are_unbiased(estimator, n, name):
    tolerance = 1e-6 if name == "extreme" else 1e-9
    found, expected = enumerated(name, n, estimator=estimator)
    for each, true in zip(found, expected, strict=True):
        torch.testing.assert_close(each, true, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_with_replacement_value_and_gradients_are_unbiased(n, name):
    found, expected = enumerated(name, n, replace=True)
    for each, true in zip(found, expected, strict=True):
        torch.testing.assert_close(each, true, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_published_is_exact_but_for_the_gradient_of_the_attention(n, name):
    found, expected = enumerated(name, n, estimator="published")
    tolerance = 1e-6 if name == "extreme" else 1e-9
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(found[2], expected[2], rtol=0, atol=tolerance)
    bias = (found[1] - expected[1]).norm() / expected[1].norm()
    assert (bias < 1e-6) == (n == 1)  # and with one draw all estimators are the same
    if n > 1:
        assert bias > 0.05


def test_published_points_the_wrong_way_on_peaked_attention():
    found, expected = enumerated("peaked", 3, estimator="published")
    assert torch.cosine_similarity(found[1], expected[1], dim=0) < -0.7


@pytest.mark.parametrize("n", [1, 2, 5])
def test_published_gradients_are_the_formulas(n):
    a = torch.tensor([ATTENTIONS["moderate"][:n]], dtype=torch.float64, requires_grad=True)
    f = torch.randn(1, n, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(1, 4, dtype=torch.float64)
    value = expectation(f, a, estimator="published")
    grad_a, grad_f = torch.autograd.grad(value, [a, f], g)
    rows, p = f[0].detach(), a[0].detach()
    total = torch.zeros(4, dtype=torch.float64)
    for k in range(n):
        m = 1 - sum(p[i] for i in range(k))
        f_k = sum((p[i] * rows[i] for i in range(k)), m * rows[k])
        total += f_k / n
        slope = m / p[k] * f_k + sum((rows[i] for i in range(k)), 0 * rows[k]) - k * rows[k]
        torch.testing.assert_close(grad_a[0, k], g[0] @ slope / n)
        torch.testing.assert_close(grad_f[0, k], (m + (n - 1 - k) * p[k]) * g[0] / n)
    torch.testing.assert_close(value[0].detach(), total)


@given(st.integers(2, 6), st.integers(0, 1000), st.sampled_from([0.3, 1.0, 4.0]))
def test_unordered_weights_are_the_chance_to_have_come_first(n, seed, spread):
    """Against all orders of the set, for attention from nearly even to very peaked."""
    scores = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p = (spread * scores).softmax(0).tolist()
    first, total = [0.0] * n, 0.0
    for order in itertools.permutations(range(n)):
        chance = plackett_luce(p, order)
        first[order[0]] += chance
        total += chance
    found = expectation_weights(torch.tensor([p[:n]], dtype=torch.float64))
    expected = torch.tensor([[each / total for each in first]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n", [2, 10, 40, 300])
def test_unordered_weights_of_many_draws(n):
    """Against the adaptive quadrature of SciPy, where there are too many orders."""
    generator = torch.Generator().manual_seed(n)
    p = (1.5 * torch.randn(2 * n, generator=generator, dtype=torch.float64)).softmax(0)
    a = p.sort(descending=True).values[:n]
    r = 1 - float(a.sum())
    found = expectation_weights(a[None])[0]
    assert float(found.sum()) == pytest.approx(1, abs=1e-14)
    rates = a.numpy()

    def integrand(t, i, scale):
        x = math.exp(t)
        log = [math.log(-math.expm1(-rate * x)) for j, rate in enumerate(rates) if j != i]
        return math.exp(t - r * x + sum(log) - scale)

    def integral(i, scale=0.0):
        return quad(integrand, -25, 12, args=(i, scale), epsabs=0, epsrel=1e-11, limit=500)[0]

    # With many draws the integrand underflows; its height at the peak of one serves all.
    grid = [t / 10 for t in range(-100, 120)]
    scale = max(
        t - r * math.exp(t) + sum(math.log(-math.expm1(-rate * math.exp(t))) for rate in rates)
        for t in grid
    )
    some = [0, n // 2, n - 1]
    expected = torch.tensor([rates[i] * integral(i, scale) for i in some], dtype=torch.float64)
    ratios = found[some] / found[some].sum()
    torch.testing.assert_close(ratios, expected / expected.sum(), rtol=1e-9, atol=0)


def test_unordered_does_not_depend_on_the_order():
    a = torch.tensor([ATTENTIONS["moderate"][:4]], dtype=torch.float64)
    f = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, grads = [], []
    for order in itertools.permutations(range(4)):
        p = a.clone().requires_grad_()
        value = expectation(f[:, list(order)], p[:, list(order)])
        values.append(value.detach())
        grads.append(torch.autograd.grad(value.sum(), p)[0])
    for group in (values, grads):
        for each in group[1:]:
            torch.testing.assert_close(each, group[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("name", ["uniform", "moderate", "peaked"])
def test_unordered_varies_less_than_ordered(name, n):
    """By Rao and Blackwell: it is the mean of the ordered estimate over all orders of the set."""
    p = torch.tensor(ATTENTIONS[name], dtype=torch.float64)
    f = torch.randn(5, 1, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    draws = list(itertools.permutations(range(5), n))
    chances = torch.tensor([plackett_luce(p.tolist(), d) for d in draws], dtype=torch.float64)
    cells = torch.tensor(draws)
    spread = {
        each: chances @ (expectation(f[cells], p[cells], estimator=each)[:, 0] - p @ f[:, 0]) ** 2
        for each in ("unordered", "ordered")
    }
    assert spread["unordered"] < spread["ordered"]


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30),
    st.floats(0.0, 1.0),
    st.sampled_from(ESTIMATORS),
    st.booleans(),
)
def test_constant_features_give_themselves(rates, rest, estimator, replace):
    a = torch.tensor([rates], dtype=torch.float64)
    a = a / (a.sum() + rest)
    f = torch.tensor([2.5, -1.0], dtype=torch.float64).expand(1, len(rates), 2)
    found = expectation(f, a, replace=replace, estimator=estimator)
    torch.testing.assert_close(found, f[:, 0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_cells_give_the_full_expectation(dtype):
    """Of the unordered estimate: the ordered ones give it only in the mean."""
    a = torch.rand(3, 40, dtype=dtype).softmax(1)
    f = torch.randn(3, 40, 7, dtype=dtype)
    found = expectation(f, a)
    torch.testing.assert_close(found, (a[:, :, None] * f).sum(1))


def test_what_is_left_below_the_rounding_is_nothing():
    """Three cells that in float32 are all there is: the estimate is their exact sum."""
    a = torch.tensor([[1.0, 1e-12, 1e-20]], requires_grad=True)
    f = torch.tensor([[[2.0], [3.0], [-5.0]]])
    (grad,) = torch.autograd.grad(expectation(f, a).sum(), a)
    torch.testing.assert_close(grad, f[:, :, 0])
    weights = expectation_weights(a)
    torch.testing.assert_close(weights, a.detach().double(), rtol=1e-6, atol=0)


SATURATED = [
    [1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0],
    [1.0, 1e-45, 1e-45],
    [1.0, 1e-38, 1e-42],
    [1 - 2**-24, 1e-45, 1e-30],
    [1 - 2**-20, 2**-21, 1e-45],
    [0.5, 0.5, 0.0],
    [1e-45, 1e-30, 1e-20],
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_saturation_is_finite(estimator, replace, dtype):
    a = torch.tensor(SATURATED, dtype=dtype, requires_grad=True)
    f = 100 * torch.randn(len(a), 3, 50, dtype=dtype)
    f.requires_grad_()
    value = expectation(f, a, replace=replace, estimator=estimator)
    value.square().sum().backward()
    for each in (value, a.grad, f.grad):
        assert each.isfinite().all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_saturated_attention_is_all_there_is(estimator):
    a = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    f = torch.tensor([[[2.0], [30.0], [-50.0]]])
    value = expectation(f, a, estimator=estimator)
    value.sum().backward()
    assert value.tolist() == [[2.0]]
    assert a.grad[0, 0] > 0
    if estimator != "published":
        assert a.grad.tolist() == [[2.0, 0.0, 0.0]]


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 3), (0,)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_features_of_any_shape(estimator, shape):
    a = torch.rand(2, 6).softmax(1)[:, :3]
    f = torch.randn(2, 3, *shape)
    found = Expectation(estimator=estimator)(f, a)
    weights = expectation_weights(a, estimator=estimator).float()
    expected = sum(weights[:, k].reshape(2, *[1] * len(shape)) * f[:, k] for k in range(3))
    assert found.shape == (2, *shape)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_half_precision(estimator):
    a = torch.tensor([[0.5, 0.25, 0.125]])
    f = torch.randn(1, 3, 8).bfloat16().requires_grad_()
    module = Expectation(estimator=estimator)
    exact = expectation(f.float(), a, estimator=estimator)
    assert torch.equal(expectation(f, a, estimator=estimator), exact)
    assert torch.equal(module(f, a), exact.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(f, a), exact)
        module(f, a).sum().backward()
    assert f.grad.dtype == torch.bfloat16
    a = a.bfloat16().requires_grad_()
    expectation(f.detach(), a, estimator=estimator).sum().backward()
    assert a.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"estimator": e} for e in ESTIMATORS] + [{"replace": True}])
def test_images_of_a_batch_do_not_depend_on_each_other(options):
    a, f = torch.rand(4, 9).softmax(1)[:, :5], torch.randn(4, 5, 3)
    together = expectation(f, a, **options)
    alone = torch.cat([expectation(f[[b]], a[[b]], **options) for b in range(4)])
    torch.testing.assert_close(together, alone)


def test_errors():
    f, a = torch.ones(2, 3, 4), torch.ones(2, 3) / 4
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(2, 2\)"):
        expectation(f, a[:, :2])
    with pytest.raises(ValueError, match=r"\(B, n\), got \(2, 3, 4\) and \(2, 3, 1\)"):
        expectation(f, a[:, :, None])
    with pytest.raises(ValueError, match=r"unordered.*'best'"):
        expectation(f, a, estimator="best")
    with pytest.raises(ValueError, match=r"unordered.*'best'"):
        Expectation(estimator="best")
