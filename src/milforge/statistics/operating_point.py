"""A threshold chosen on one part of the data, and what comes of it on another."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from milforge.statistics.auroc import Clusters
from milforge.statistics.curves import roc_curve
from milforge.statistics.estimates import Estimate
from milforge.statistics.proportions import clustered_proportion


class OperatingPoint(NamedTuple):
    """What comes of a threshold.

    Attributes:
        threshold: at or above which a bag is positive.
        confusion: true negatives, false positives, false negatives and true positives.
        sensitivity: of the positive bags; None where there are none.
        specificity: of the negative bags; None where there are none.
        positive_value: the share of positives among those called positive; None where there are
            none.
        negative_value: the share of negatives among those called negative; None where there are
            none.
        accuracy: of all bags.
    """

    threshold: float
    confusion: tuple[int, int, int, int]
    sensitivity: Estimate | None
    specificity: Estimate | None
    positive_value: Estimate | None
    negative_value: Estimate | None
    accuracy: Estimate


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The score of largest sensitivity plus specificity (Youden 1950), the highest of equal ones.

    Args:
        labels: `(n,)` of 0 and 1, both of which occur.
        scores: `(n,)` finite.

    Raises:
        ValueError: for other labels or scores.

    Example:
        >>> youden_threshold([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.8
    """
    curve = roc_curve(labels, scores)
    return float(curve.threshold[1:][np.argmax((curve.y - curve.x)[1:].round(12))])


def sensitivity_threshold(labels: ArrayLike, scores: ArrayLike, wanted: float) -> float:
    """The highest score at which at least the wanted share of the positive bags is found.

    Args:
        labels: as in `youden_threshold`.
        scores: as in `youden_threshold`.
        wanted: above 0, at most 1.

    Raises:
        ValueError: for other labels, scores or shares.

    Example:
        >>> sensitivity_threshold([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.9)
        0.35
    """
    if not 0 < wanted <= 1:
        raise ValueError(f"expected a wanted sensitivity above 0 and at most 1, got {wanted}")
    curve = roc_curve(labels, scores)
    return float(curve.threshold[np.argmax(curve.y >= wanted - 1e-12)])


def operating_point(
    labels: ArrayLike, scores: ArrayLike, threshold: float, clusters: Clusters = None
) -> OperatingPoint:
    """Sensitivity, specificity and the other shares at a threshold, with Wilson's intervals.

    Args:
        labels: `(n,)` of 0 and 1.
        scores: `(n,)`.
        threshold: at or above which a bag is called positive.
        clusters: `(n,)` the patient of each bag; None: each bag is a patient.

    Example:
        >>> found = operating_point([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.5)
        >>> found.confusion, found.sensitivity.value, found.specificity.value
        ((2, 0, 1, 1), 0.5, 1.0)
    """
    y, called = np.asarray(labels).astype(bool), np.asarray(scores) >= threshold
    patients = np.arange(len(y)) if clusters is None else np.asarray(clusters)
    right = called == y

    def share(of: ArrayLike) -> Estimate | None:
        chosen = np.asarray(of)
        return clustered_proportion(right[chosen], patients[chosen]) if chosen.any() else None

    confusion = tuple(int((a & b).sum()) for a in (~y, y) for b in (~called, called))
    return OperatingPoint(
        float(threshold),
        confusion,  # type: ignore[arg-type]
        share(y),
        share(~y),
        share(called),
        share(~called),
        clustered_proportion(right, patients),
    )
