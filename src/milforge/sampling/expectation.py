"""The expectation of features under the attention, estimated from the cells that were drawn.

Without replacement, `a_1 .. a_n` are the probabilities in the order drawn, `m_k = 1 - sum_{i<k}
a_i` what was left before the k-th draw (k from 0), and `r` what is left after the last.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

Estimator = Literal["unordered", "ordered", "published"]


def expectation(
    features: Tensor,
    probabilities: Tensor,
    *,
    replace: bool = False,
    estimator: Estimator = "unordered",
) -> Tensor:
    """Estimates `sum_i a_i f_i` over all cells from those that were drawn.

    The value is `sum_i w_i f_i` with the weights of `expectation_weights`. As `w_i = u_i a_i` is
    unbiased for any features, so is the gradient with `u_i` held fixed: `d/da_i = u_i <g, f_i>`
    for an incoming `g`. That is the gradient of the expected features; a nonlinear loss of an
    estimate has a bias of its own.

    - `unordered` (Murthy 1957; Kool, van Hoof and Welling 2020, arXiv:2002.06043): of the three
      the least variance; it does not depend on the order of the draws.
    - `ordered` (Des Raj 1956): cheap, a little more variance.
    - `published` (Katharopoulos and Fleuret 2019, arXiv:1905.03711): for reproduction only. Value
      and gradient of the features are those of `ordered`; the gradient of the attention is
      `d/da_k = <g, (m_k / a_k) F_k + sum_{i<k} f_i - k f_k> / n` with
      `F_k = sum_{i<k} a_i f_i + m_k f_k`, as the original library computes it. **It is biased**,
      and on peaked attention points away from the true one.

    With replacement the value is the mean, the gradient of `a_i` is `<g, f_i> / (n a_i)`, and
    the estimator has no say.

    Args:
        features: `(B, n, ...)` float, of the drawn cells.
        probabilities: `(B, n)` float, their probabilities in the order drawn.
        replace: whether they were drawn with replacement.
        estimator: `unordered`, `ordered` or `published`.

    Returns:
        `(B, ...)`, of at least float32.

    Raises:
        ValueError: where the shapes do not fit each other, or for an unknown estimator.

    Example:
        >>> probabilities = torch.tensor([[0.5, 0.25]], requires_grad=True)
        >>> value = expectation(torch.tensor([[[8.0], [4.0]]]), probabilities)
        >>> value.detach()
        tensor([[6.4000]])
        >>> torch.autograd.grad(value.sum(), probabilities)
        (tensor([[9.6000, 6.4000]]),)
    """
    if probabilities.ndim != 2 or probabilities.shape != features.shape[:2]:
        raise ValueError(
            "expected features of shape (B, n, ...) and their probabilities of shape (B, n), got "
            f"{tuple(features.shape)} and {tuple(probabilities.shape)}"
        )
    weights = expectation_weights(probabilities, replace=replace, estimator=estimator)
    a = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    if estimator == "published" and not replace:
        f = _table(features)
        with torch.autocast(features.device.type, enabled=False):
            out: Tensor = _Published.apply(f, a, weights)  # type: ignore[no-untyped-call]
        return out.reshape(len(features), *features.shape[2:])
    slope = _ratio(weights, a.detach().double()).to(a.dtype)  # u_i
    return weighted_sum(features, weights.to(a.dtype) + slope * (a - a.detach()))


def weighted_sum(features: Tensor, weights: Tensor) -> Tensor:
    """`sum_i w_i f_i` of features `(B, n, ...)` with weights `(B, n)`, in at least float32.

    Example:
        >>> weighted_sum(torch.tensor([[[8.0], [4.0]]]), torch.tensor([[0.5, 0.25]]))
        tensor([[5.]])
    """
    f = _table(features)
    with torch.autocast(features.device.type, enabled=False):
        out = torch.bmm(weights.to(f.dtype)[:, None], f)
    return out.reshape(len(features), *features.shape[2:])


def expectation_weights(
    probabilities: Tensor, *, replace: bool = False, estimator: Estimator = "unordered"
) -> Tensor:
    """Weights of the drawn cells in the estimate.

    - with replacement: `1 / n`;
    - `ordered` and `published`: `(m_k + (n - 1 - k) a_k) / n`, k from 0;
    - `unordered`: `w_i = P(first = i | the set that was drawn)`, which is proportional to
      `a_i * integral_0^inf exp(-r x) prod_{j != i} (1 - exp(-a_j x)) dx`: with each cell ringing
      after an exponential time of rate `a`, all others of the set ring before any that was not
      drawn. One quadrature for any n, exact to about 1e-12.

    An `r` that is less than the rounding of the probabilities counts as 0.

    Args:
        probabilities: `(B, n)` float, in the order drawn.
        replace: whether they were drawn with replacement.
        estimator: `unordered`, `ordered` or `published`.

    Returns:
        `(B, n)` float64, without a gradient; the weights of the cells of an image sum to 1.

    Raises:
        ValueError: for an unknown estimator.

    Example:
        >>> probabilities = torch.tensor([[0.5, 0.25]])
        >>> expectation_weights(probabilities, estimator="ordered")
        tensor([[0.7500, 0.2500]], dtype=torch.float64)
        >>> expectation_weights(probabilities)  # 0.5 first, then 0.25: 1/4; the other way: 1/6
        tensor([[0.6000, 0.4000]], dtype=torch.float64)
    """
    check_estimator(estimator)
    a = probabilities.detach().double()
    n = a.shape[1]
    if replace:
        return torch.full_like(a, 1 / n)
    rounding = 4 * torch.finfo(torch.promote_types(probabilities.dtype, torch.float32)).eps
    r = 1 - a.sum(1, keepdim=True)
    r = r.where(r > rounding, 0)
    if estimator == "unordered":
        whole = a / a.sum(1, keepdim=True)  # with all of the mass drawn the estimate is exact
        return _unordered(a, r.clamp(min=rounding)).where(r > 0, whole) if n > 1 else whole
    left = _left(a, r)
    return (left + torch.arange(n - 1, -1, -1, device=a.device) * a) / n


class Expectation(nn.Module):
    """Estimates the expected features from the features of sampled patches.

    Args:
        replace: whether the patches were drawn with replacement.
        estimator: `unordered`, `ordered` or `published`, as `expectation` explains them.

    Raises:
        ValueError: for an unknown estimator.

    Example:
        >>> Expectation(replace=True)(torch.tensor([[[8.0], [4.0]]]), torch.tensor([[0.5, 0.25]]))
        tensor([[6.]])
    """

    def __init__(self, replace: bool = False, estimator: Estimator = "unordered") -> None:
        super().__init__()
        check_estimator(estimator)
        self.replace = replace
        self.estimator: Estimator = estimator

    def forward(self, patch_features: Tensor, sampled_attention: Tensor) -> Tensor:
        """Estimates the expectation.

        Args:
            patch_features: `(B, n, ...)` float.
            sampled_attention: `(B, n)`, the probabilities of the patches in the order drawn.

        Returns:
            `(B, ...)`, of the dtype of the features, or under autocast of at least float32.

        Raises:
            ValueError: where the shapes do not fit each other.
        """
        out = expectation(
            patch_features, sampled_attention, replace=self.replace, estimator=self.estimator
        )
        return as_features(out, patch_features.dtype)

    def extra_repr(self) -> str:
        """Replacement and estimator, for `print`."""
        return f"replace={self.replace}, estimator={self.estimator}"


def check_estimator(estimator: str) -> None:
    """Checks the name of an estimator.

    Raises:
        ValueError: where there is none of that name.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(
            f"expected estimator to be one of {list(get_args(Estimator))}, got {estimator!r}"
        )


def as_features(out: Tensor, dtype: torch.dtype) -> Tensor:
    """A sum of features in their dtype; as it is under autocast, where they were cast down."""
    return out if torch.is_autocast_enabled(out.device.type) else out.to(dtype)


def _table(features: Tensor) -> Tensor:
    """Features `(B, n, ...)` as `(B, n, F)` of at least float32."""
    width = math.prod(features.shape[2:])
    dtype = torch.promote_types(features.dtype, torch.float32)
    return features.reshape(*features.shape[:2], width).to(dtype)


def _ratio(part: Tensor, a: Tensor) -> Tensor:
    """`part / a`, finite: 0 for a cell of no probability, which no weight could follow.

    A ratio beyond the bound belongs to a draw that is never made, and in float32 the gradient
    would be infinite.
    """
    return torch.where(a > 0, part / a.where(a > 0, 1), 0).clamp(max=1e20)


def _left(a: Tensor, r: Tensor) -> Tensor:
    """`m_k`, summed from the end: `1 - sum` would leave its rounding where all mass is drawn."""
    return r + a.flip(1).cumsum(1).flip(1)


def _unordered(a: Tensor, r: Tensor) -> Tensor:
    """Murthy's weights for `a` `(B, n)` and `r` `(B, 1)` above 0, both float64, n of at least 2.

    The trapezoid rule in `t = log x`, where the integrand is smooth and dies out on both sides, so
    that the error falls off exponentially with the step. The peak is the narrower the larger n.
    """
    n = a.shape[1]
    step = min(0.25, 0.7 / math.sqrt(n))
    # Below x = 1 the integrand over dt falls like x^n, and beyond the peak like exp(-r x).
    first = -42 / n - 0.5
    last = ((2 * n + 60) / r).log()
    # As many points as the smallest r that can be told from 0 would need: no GPU is asked for r.
    smallest = 4 * torch.finfo(torch.float64).eps
    points = math.ceil((math.log((2 * n + 60) / smallest) - first) / step)
    t = first + (last - first) * torch.linspace(0, 1, points, dtype=a.dtype, device=a.device)
    x = t.exp()  # (B, points)
    # No underflow to 0; it stands for the probability of a cell that cannot be drawn as well.
    rang = -torch.expm1(-(a[:, :, None] * x[:, None]).clamp(min=1e-200))  # (B, n, points)
    height = t - r * x + rang.log().sum(1)
    height = (height - height.amax(1, keepdim=True)).exp()
    weights = a * (height[:, None] / rang).sum(2)
    return weights / weights.sum(1, keepdim=True)


class _Published(torch.autograd.Function):
    """The estimator as published: unbiased in value, not in its gradient of the attention."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, a: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(f, a, weights)
        return torch.bmm(weights.to(f.dtype)[:, None], f).squeeze(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        f, a, weights = ctx.saved_tensors
        n = a.shape[1]
        k = torch.arange(n, device=a.device)
        p = a.double()
        left = n * weights - (n - 1 - k) * p  # m_k
        s = torch.bmm(f, grad[:, :, None]).squeeze(2).double()  # <g, f_k>
        value = (p * s).cumsum(1) - p * s + left * s  # <g, F_k>
        slope = _ratio(left, p) * value + s.cumsum(1) - s - k * s
        return weights.to(f.dtype)[:, :, None] * grad[:, None], (slope / n).to(a.dtype), None
