"""ROC and precision-recall curves, and decision curves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from milforge.statistics.estimates import checked_labels

Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """The points of a curve, `(k,)` each, and the threshold at or above which a bag is positive."""

    x: Floats
    y: Floats
    threshold: Floats


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """False positive rate and true positive rate at every distinct score, from (0, 0) on.

    Args:
        labels: `(n,)` of 0 and 1, both of which occur.
        scores: `(n,)` finite.

    Raises:
        ValueError: for other labels or scores.

    Example:
        >>> curve = roc_curve([0, 1], [0.2, 0.7])
        >>> curve.x.tolist(), curve.y.tolist(), curve.threshold.tolist()
        ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [inf, 0.7, 0.2])
    """
    y, x = checked_labels(labels, scores)
    true, called, thresholds = _counts(y, x[0])
    start, false = np.zeros(1), called - true
    return Curve(
        np.concatenate([start, false / false[-1]]),
        np.concatenate([start, true / true[-1]]),
        np.concatenate([[np.inf], thresholds]),
    )


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """Recall (x) and precision (y) at every distinct score, the highest first.

    Args:
        labels: as in `roc_curve`.
        scores: as in `roc_curve`.

    Raises:
        ValueError: for other labels or scores.

    Example:
        >>> curve = precision_recall_curve([0, 1, 1], [0.2, 0.7, 0.1])
        >>> curve.x.tolist(), curve.y.round(2).tolist()
        ([0.5, 0.5, 1.0], [1.0, 0.5, 0.67])
    """
    y, x = checked_labels(labels, scores)
    true, called, thresholds = _counts(y, x[0])
    return Curve(true / true[-1], true / called, thresholds)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """The sum of precisions, each weighted by the rise in recall; as scikit-learn has it.

    Example:
        >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
        0.8333
    """
    y, x = checked_labels(labels, scores)
    return average_precision_of(y, x[0])


def average_precision_of(y: NDArray[np.bool_], x: Floats) -> float:
    """The same of labels and scores that are known to be right, as when bags are drawn again."""
    true, called, _ = _counts(y, x)
    # The rise in true positives at each score, times the precision there.
    rise = true.copy()
    rise[1:] -= true[:-1]
    return float((rise * true / called).sum() / true[-1])


class DecisionCurve(NamedTuple):
    """Net benefit at each threshold probability, `(k,)` each."""

    threshold: Floats
    model: Floats
    treat_all: Floats


def decision_curve(
    labels: ArrayLike, probability: ArrayLike, thresholds: Sequence[float] | Floats
) -> DecisionCurve:
    """Net benefit `TP/n - FP/n * t/(1 - t)` where bags of probability t or more are treated.

    Vickers and Elkin 2006. To treat none has net benefit 0.

    Args:
        labels: `(n,)` of 0 and 1.
        probability: `(n,)` of the positive class.
        thresholds: t, from 0 to less than 1.

    Raises:
        ValueError: for a threshold out of range, or numbers that differ.

    Example:
        >>> found = decision_curve([0, 1, 1, 0], [0.2, 0.7, 0.4, 0.6], [0.5])
        >>> found.model.tolist(), found.treat_all.tolist()
        ([0.0], [0.0])
    """
    y, p = np.asarray(labels).astype(bool), np.asarray(probability, dtype=np.float64)
    t = np.asarray(thresholds, dtype=np.float64)
    if y.shape != p.shape or y.ndim != 1 or not len(y):
        raise ValueError(f"expected labels and probabilities (n,), got {y.shape} and {p.shape}")
    if not ((t >= 0) & (t < 1)).all():
        raise ValueError("expected thresholds from 0 to less than 1")
    odds = t / (1 - t)
    treated = p[None, :] >= t[:, None]
    model = (treated & y).mean(1) - (treated & ~y).mean(1) * odds
    return DecisionCurve(t, model, y.mean() - (1 - y.mean()) * odds)


def _counts(y: NDArray[np.bool_], x: Floats) -> tuple[Floats, Floats, Floats]:
    """True positives and all positives at every distinct score, the highest first."""
    order = np.argsort(-x, kind="stable")
    scores = x[order]
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(y) - 1)
    true = np.cumsum(y[order])[last].astype(np.float64)
    return true, last + 1.0, scores[last]
