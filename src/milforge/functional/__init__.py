"""Stateless tensor operators."""

from milforge.functional.dirichlet import dirichlet_energy, relative_dirichlet_energy
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
    "dirichlet_energy",
    "relative_dirichlet_energy",
    "segment_auroc",
    "segment_average_precision",
    "segment_index",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "segment_weighted_sum",
]
