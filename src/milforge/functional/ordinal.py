"""Losses of grades: classes in order, 0 to K - 1, by K - 1 questions whether it is a higher one."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cumulative_nll(logits: Tensor, grade: Tensor) -> Tensor:
    r"""Cross-entropy of the questions whether the grade is above k, all of them.

    $$ -\sum_{k=0}^{K-2} 1[y > k] \log \sigma(l_k) + 1[y \le k] \log \sigma(-l_k) $$

    With logits `l_k = g + b_k`, of which the thresholds b are shared by all bags, it is CORAL (Cao,
    Mirjalili and Raschka, Pattern Recognition Letters 2020).

    Args:
        logits: `(B, K - 1)` float, of the probability that the grade is above k.
        grade: `(B,)` int64, 0 to K - 1.

    Returns:
        `(B,)`.

    Raises:
        ValueError: for other shapes or dtypes.

    Example:
        >>> cumulative_nll(torch.zeros(1, 2), torch.tensor([1]))  # 2 log 2
        tensor([1.3863])
    """
    above = _above(logits, grade).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(1)


def conditional_nll(logits: Tensor, grade: Tensor) -> Tensor:
    r"""Cross-entropy of the questions whether the grade is above k, where it is at least k.

    $$ -\sum_{k=0}^{\min(y, K-2)} 1[y > k] \log \sigma(l_k) + 1[y = k] \log \sigma(-l_k) $$

    CORN (Shi, Cao and Raschka, Pattern Analysis and Applications 2023): the probability that the
    grade is above k is the product of the sigmoids up to k. This is the exact negative
    log-likelihood of the grade; the published code divides the sum of each question by the number
    of bags that it was asked of, which differs from batch to batch.

    Args:
        logits: `(B, K - 1)` float.
        grade: `(B,)` int64, 0 to K - 1.

    Returns:
        `(B,)`.

    Raises:
        ValueError: for other shapes or dtypes.

    Example:
        >>> conditional_nll(torch.zeros(2, 2), torch.tensor([0, 2]))  # log 2, 2 log 2
        tensor([0.6931, 1.3863])
    """
    above = _above(logits, grade)
    asked = F.pad(above[:, :-1], (1, 0), value=True)
    losses = F.binary_cross_entropy_with_logits(logits, above.to(logits.dtype), reduction="none")
    return losses.where(asked, 0.0).sum(1)


def _above(logits: Tensor, grade: Tensor) -> Tensor:
    """`(B, K - 1)` bool: whether the grade is above k."""
    if logits.ndim != 2 or grade.shape != logits.shape[:1] or grade.dtype != torch.int64:
        raise ValueError(
            "expected logits (B, K - 1) and grade (B,) of int64, got "
            f"{tuple(logits.shape)} and {grade.dtype} {tuple(grade.shape)}"
        )
    return grade[:, None] > torch.arange(logits.shape[1], device=logits.device)
