"""Stateless tensor operators."""

from milforge.functional.ranking import segment_auroc, segment_average_precision
from milforge.functional.segment import (
    segment_index,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    segment_weighted_sum,
)

__all__ = [
    "segment_auroc",
    "segment_average_precision",
    "segment_index",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "segment_weighted_sum",
]
