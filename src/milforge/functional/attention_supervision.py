"""Attention that is held to the labels of instances."""

import torch
from torch import Tensor

from milforge.functional.segment import segment_softmax, segment_sum


def attention_supervision(scores: Tensor, labels: Tensor, ptr: Tensor) -> Tensor:
    r"""Loss of the attention of each bag that looks elsewhere than at the positive instances.

    $$ -\log \frac{\sum_{n: y_n = 1} e^{f_n}}{\sum_{n: y_n \geq 0} e^{f_n}} $$

    It is 0 where a bag has no positive instance, or nothing but positive ones, of those that are
    labelled; instances without a label count nowhere.

    Args:
        scores: `(N,)` or `(N, K)`, over whose columns it is averaged.
        labels: `(N,)` int64, 1 for a positive instance, 0 for another, -1 where unknown.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)`.

    Example:
        >>> labels = torch.tensor([1, 0, -1, 0])
        >>> attention_supervision(torch.zeros(4), labels, torch.tensor([0, 3, 4]))
        tensor([0.6931, 0.0000])
    """
    table = scores if scores.ndim == 2 else scores[:, None]
    weights = segment_softmax(table.masked_fill((labels < 0)[:, None], -torch.inf), ptr)
    positive = (labels == 1).to(weights.dtype)[:, None]
    mass = segment_sum(weights * positive, ptr)
    # What a model hides has no weight: nothing can be learnt from it, and the loss stays finite.
    losses = -mass.clamp(min=torch.finfo(mass.dtype).tiny).log().mean(1)
    return losses.where(segment_sum(positive, ptr)[:, 0] > 0, 0.0)
