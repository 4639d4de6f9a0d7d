"""Losses of bags: `(logits (B, O), y)` to `(B,)`, one number a bag.

`y` is int64 `(B,)`, numbers of classes of which each bag has one; or float `(B, O)`, a value for
each logit, NaN where it is missing. A missing value counts for nothing: the loss of a bag is the
mean over those that are known, and 0 where none is.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy of each logit by itself, of labels that may be there together.

    $$ -t \log \sigma(l) - (1 - t) \log \sigma(-l) \qquad t = (1 - s) y + s / 2 $$

    Args:
        logits: `(B, O)` float.
        y: `(B, O)` float in [0, 1], NaN where missing.
        label_smoothing: `s`, from 0 (none) to 1 (all labels are one half).

    Returns:
        `(B,)`, the mean over the known labels.

    Raises:
        ValueError: for other shapes or dtypes, or an `s` outside [0, 1].

    Example:
        >>> binary_cross_entropy(torch.tensor([[0.0, 9.0]]), torch.tensor([[1.0, torch.nan]]))
        tensor([0.6931])
    """
    _check_values(logits, y)
    _check_smoothing(label_smoothing)
    target = _without_gaps(y, 0.5).to(logits.dtype)
    target = (1 - label_smoothing) * target + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return known_mean(losses, y)


def cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy, of one class a bag, or of each label by itself.

    $$ -\sum_c t_c \log \mathrm{softmax}(l)_c \qquad t = (1 - s) e_y + s / O $$

    Args:
        logits: `(B, O)` float.
        y: `(B,)` int64, the classes; float labels are those of `binary_cross_entropy`.
        label_smoothing: `s`, from 0 (none) to 1 (all classes alike).

    Returns:
        `(B,)`.

    Raises:
        ValueError: for other shapes or dtypes, or an `s` outside [0, 1].

    Example:
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([1]))
        tensor([0.6931])
    """
    if y.is_floating_point():
        return binary_cross_entropy(logits, y, label_smoothing)
    _check_classes(logits, y)
    _check_smoothing(label_smoothing)
    return F.cross_entropy(logits, y, reduction="none", label_smoothing=label_smoothing)


def focal_loss(logits: Tensor, y: Tensor, gamma: float = 2.0) -> Tensor:
    r"""Cross-entropy in which what is learnt already counts less.

    $$ -(1 - p)^\gamma \log p $$

    with `p` the probability of what is true: the softmax of the class, or of each label by itself
    the sigmoid of `l` where it is there and of `-l` where it is not. Lin et al., Focal loss for
    dense object detection, ICCV 2017 (https://arxiv.org/abs/1708.02002), without its weight of
    the classes.

    Args:
        logits: `(B, O)` float.
        y: `(B,)` int64 classes, or `(B, O)` float labels, NaN where missing.
        gamma: how much less; 0 is cross-entropy.

    Returns:
        `(B,)`.

    Raises:
        ValueError: for other shapes or dtypes, or a negative `gamma`.

    Example:
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([1]))  # a quarter of log 2
        tensor([0.1733])
    """
    if gamma < 0:
        raise ValueError(f"expected gamma of at least 0, got {gamma}")
    # In logarithms: 1 - p loses all digits where p is near 1, and a power of 0 its gradient.
    if y.is_floating_point():
        _check_values(logits, y)
        target = _without_gaps(y, 0.0).to(logits.dtype)
        there = -(gamma * F.logsigmoid(-logits)).exp() * F.logsigmoid(logits)
        absent = -(gamma * F.logsigmoid(logits)).exp() * F.logsigmoid(-logits)
        return known_mean(target * there + (1 - target) * absent, y)
    _check_classes(logits, y)
    log_p = logits.log_softmax(1)
    # Not by `one_hot`, which waits for a device to know the classes.
    log_rest = log_p.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return -(gamma * log_rest).exp() * log_p.gather(1, y[:, None])[:, 0]


def mean_squared_error(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of the squared differences.

    Args:
        logits: `(B, O)` float.
        y: `(B, O)` float, NaN where missing.

    Returns:
        `(B,)`, the mean over the known values.

    Raises:
        ValueError: for other shapes or dtypes.

    Example:
        >>> mean_squared_error(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 5.0]]))
        tensor([2.])
    """
    return known_mean(_differences(logits, y).square(), y)


def mean_absolute_error(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of the absolute differences.

    Args:
        logits: `(B, O)` float.
        y: `(B, O)` float, NaN where missing.

    Returns:
        `(B,)`, the mean over the known values.

    Raises:
        ValueError: for other shapes or dtypes.

    Example:
        >>> mean_absolute_error(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 5.0]]))
        tensor([1.])
    """
    return known_mean(_differences(logits, y).abs(), y)


def huber_loss(logits: Tensor, y: Tensor, delta: float = 1.0) -> Tensor:
    r"""Squared error of small differences, absolute error of large ones.

    $$ d^2 / 2 \text{ where } |d| \le \delta, \text{ else } \delta (|d| - \delta / 2) $$

    Huber, Robust estimation of a location parameter, 1964.

    Args:
        logits: `(B, O)` float.
        y: `(B, O)` float, NaN where missing.
        delta: where the one gives way to the other, on the scale of the logits.

    Returns:
        `(B,)`, the mean over the known values.

    Raises:
        ValueError: for other shapes or dtypes, or a `delta` that is not positive.

    Example:
        >>> huber_loss(torch.tensor([[1.0], [1.0]]), torch.tensor([[1.5], [4.0]]))
        tensor([0.1250, 2.5000])
    """
    if not delta > 0:
        raise ValueError(f"expected a positive delta, got {delta}")
    distance = _differences(logits, y).abs()
    quadratic = distance.clamp(max=delta)
    return known_mean(quadratic * (distance - quadratic / 2), y)


def known_mean(losses: Tensor, y: Tensor) -> Tensor:
    """Mean over the values of each bag that are known.

    Args:
        losses: `(B, O)`, finite where `y` is missing: else the gradients there are NaN.
        y: `(B, O)`, NaN where missing.

    Returns:
        `(B,)`; 0 where nothing is known, with gradients of 0.

    Example:
        >>> known_mean(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, torch.nan]]))
        tensor([1.])
    """
    known = ~y.isnan()
    return losses.where(known, 0.0).sum(1) / known.sum(1).clamp(min=1)


def _differences(logits: Tensor, y: Tensor) -> Tensor:
    """`(B, O)`, logits less labels; 0 where these are missing."""
    _check_values(logits, y)
    return logits - _without_gaps(y, logits.detach())


def _without_gaps(y: Tensor, instead: Tensor | float) -> Tensor:
    """`y` with something finite where it is missing: a gradient of 0 times NaN would be NaN."""
    return torch.where(y.isnan(), instead, y)


def _check_values(logits: Tensor, y: Tensor) -> None:
    if logits.ndim != 2 or y.shape != logits.shape or not y.is_floating_point():
        raise ValueError(
            "expected logits (B, O) and float y of that shape, got "
            f"{tuple(logits.shape)} and {y.dtype} {tuple(y.shape)}"
        )


def _check_classes(logits: Tensor, y: Tensor) -> None:
    if logits.ndim != 2 or y.shape != logits.shape[:1] or y.dtype != torch.int64:
        raise ValueError(
            "expected logits (B, O) and y (B,) of int64 classes, or (B, O) of float values, got "
            f"{tuple(logits.shape)} and {y.dtype} {tuple(y.shape)}"
        )
    if logits.shape[1] < 2:
        raise ValueError("expected a logit for each of at least two classes, got one logit")


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"expected label_smoothing from 0 to 1, got {label_smoothing}")
