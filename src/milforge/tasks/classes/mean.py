"""What several classifiers predict together."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def logits_of_mean(logits: Sequence[Tensor], *, one_class: bool) -> Tensor:
    """Logits of the mean of the probabilities that several logits stand for.

    Args:
        logits: each `(B, O)`.
        one_class: whether a bag has one of the O classes, so that logits stand for a softmax;
            else each stands for a sigmoid by itself.

    Returns:
        `(B, O)` float64, so that a loss of them is exact for probabilities near 0 and 1.

    Example:
        >>> each = [torch.tensor([[0.2, 0.9]]).logit(), torch.tensor([[0.4, 0.5]]).logit()]
        >>> logits_of_mean(each, one_class=False).sigmoid().float()
        tensor([[0.3000, 0.7000]])
    """
    stacked = torch.stack(list(logits)).double()
    if one_class:
        return _log_mean_exp(stacked.log_softmax(2))
    return _log_mean_exp(F.logsigmoid(stacked)) - _log_mean_exp(F.logsigmoid(-stacked))


def _log_mean_exp(values: Tensor) -> Tensor:
    """Over the first axis."""
    return values.logsumexp(0) - math.log(len(values))
