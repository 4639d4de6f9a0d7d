"""Ranking of the instances inside each bag of a packed batch, for all bags at once.

Instances are sorted by bag and score; what an area or a precision needs are then differences of
running integer counts, so results are exact, do not depend on the other bags, and no loop over
bags and no wait for a GPU is needed.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from milforge.functional.segment import segment_index, segment_sum


class _Ranking(NamedTuple):
    """The instances in the order of (bag, score); counts run over all bags."""

    bag: Tensor  # (N,) bag number
    positive: Tensor  # (N,) bool, label 1
    negative: Tensor  # (N,) bool, label 0
    positives: Tensor  # (N + 1,) positives before each position
    negatives: Tensor  # (N + 1,) negatives before each position
    first: Tensor  # (N,) position of the first instance of the same bag and score
    undefined: Tensor  # (B,) bool, bags with a NaN among the scores of known instances


def _count_before(values: Tensor) -> Tensor:
    """Exclusive running sum in int64: `(N,)` to `(N + 1,)`."""
    return pad(values.cumsum(0, dtype=torch.int64), (1, 0))


def _rank(scores: Tensor, labels: Tensor, ptr: Tensor) -> _Ranking:
    if scores.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(
            "expected scores and labels of the same shape (N,), got "
            f"{tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    bag = segment_index(ptr, len(scores))
    order = scores.argsort(stable=True)
    order = order[bag[order].argsort(stable=True)]
    scores, labels = scores[order], labels[order]
    positive, negative = labels == 1, labels == 0
    new = torch.ones_like(positive)
    new[1:] = (scores[1:] != scores[:-1]) | (bag[1:] != bag[:-1])
    place = torch.arange(len(scores), device=scores.device)
    return _Ranking(
        bag=bag,
        positive=positive,
        negative=negative,
        positives=_count_before(positive),
        negatives=_count_before(negative),
        first=place.where(new, 0).cummax(0).values,
        undefined=_count_before(scores.isnan() & (positive | negative))[ptr].diff() > 0,
    )


def segment_has_both(
    labels: Int[Tensor, "instances"], ptr: Int[Tensor, "bounds"]
) -> Bool[Tensor, "bounds-1"]:
    """Whether a bag holds instances of both kinds, labelled 1 and labelled 0.

    Args:
        labels: `(N,)` instance labels 0 and 1; any other value is unknown.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)` bool.

    Example:
        >>> segment_has_both(torch.tensor([0, 1, 1, -1]), torch.tensor([0, 2, 4]))
        tensor([ True, False])
    """
    counts = (_count_before(labels == kind)[ptr].diff() for kind in (0, 1))
    return torch.stack([count > 0 for count in counts]).all(0)


def segment_auroc(
    scores: Tensor,
    labels: Tensor,
    ptr: Int[Tensor, "bounds"],
) -> Float[Tensor, "bounds-1"]:
    """Area under the ROC curve of the scores against the labels, within each bag.

    The share of pairs of a positive and a negative instance of the bag that the scores put in
    order, `(#{s_p > s_n} + #{s_p = s_n} / 2) / (P N)` with P positives and N negatives (the
    Mann-Whitney statistic), counted in integers.

    Args:
        scores: `(N,)` float, infinite values allowed.
        labels: `(N,)` instance labels 0 and 1; instances with any other label (-1, unknown) are
            ignored.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)` float64; NaN for a bag without both kinds of instance, and for one where the score
        of an instance that counts is NaN.

    Raises:
        ValueError: where scores and labels are not of the same shape `(N,)`.

    Example:
        >>> scores = torch.tensor([0.1, 0.9, 0.9, 0.3, 0.4])
        >>> labels = torch.tensor([0, 0, 1, 1, 1])
        >>> segment_auroc(scores, labels, torch.tensor([0, 3, 5]))
        tensor([0.7500,    nan], dtype=torch.float64)
    """
    ranking = _rank(scores, labels, ptr)
    positives, negatives = ranking.positives, ranking.negatives
    misplaced = positives[ranking.first] - positives[ptr[:-1]][ranking.bag]
    placed = negatives[ranking.first] - negatives[ptr[:-1]][ranking.bag]
    # Pairs in order less pairs out of order; tied ones are neither, which makes them halves.
    surplus = placed.where(ranking.positive, 0) - misplaced.where(ranking.negative, 0)
    surplus = _count_before(surplus)[ptr].diff()
    pairs = positives[ptr].diff() * negatives[ptr].diff()
    area = (pairs + surplus).double() / (2 * pairs).double()
    return area.masked_fill(ranking.undefined, torch.nan)


def segment_average_precision(
    scores: Tensor,
    labels: Tensor,
    ptr: Int[Tensor, "bounds"],
) -> Float[Tensor, "bounds-1"]:
    """Average precision of the scores against the labels, within each bag.

    `sum_k (R_k - R_{k-1}) P_k` over the distinct scores of the bag as thresholds, from the highest
    down, with `P_k` and `R_k` the precision and recall of the instances that score at least as
    much; no interpolation, as in scikit-learn.

    Args:
        scores: `(N,)` float, infinite values allowed.
        labels: `(N,)` instance labels 0 and 1; instances with any other label (-1, unknown) are
            ignored.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(B,)` float64; NaN for a bag without both kinds of instance, and for one where the score
        of an instance that counts is NaN.

    Raises:
        ValueError: where scores and labels are not of the same shape `(N,)`.

    Example:
        >>> scores = torch.tensor([0.1, 0.9, 0.9, 0.3, 0.4])
        >>> labels = torch.tensor([0, 0, 1, 1, 1])
        >>> segment_average_precision(scores, labels, torch.tensor([0, 3, 5]))
        tensor([0.5000,    nan], dtype=torch.float64)
    """
    ranking = _rank(scores, labels, ptr)
    positives, negatives = ranking.positives, ranking.negatives
    hits = positives[ptr[1:]][ranking.bag] - positives[ranking.first]
    misses = negatives[ptr[1:]][ranking.bag] - negatives[ranking.first]
    precision = hits.double() / (hits + misses).double()
    # Ties share one precision, so each positive adds its own step of recall, 1 / P.
    total = segment_sum(precision.where(ranking.positive, 0.0)[:, None], ptr)[:, 0]
    average = total / positives[ptr].diff().double()
    one_kind = negatives[ptr].diff() == 0
    return average.masked_fill(ranking.undefined | one_kind, torch.nan)
