"""Stateless tensor operators."""

from milforge.functional.attention import attention_entropy, attention_pool, weighted_sums
from milforge.functional.attention_supervision import attention_supervision
from milforge.functional.bag_attention import bag_attention
from milforge.functional.dirichlet import dirichlet_energy, relative_dirichlet_energy
from milforge.functional.keyed_random import keyed_uniform
from milforge.functional.losses import (
    binary_cross_entropy,
    cross_entropy,
    focal_loss,
    huber_loss,
    known_mean,
    mean_absolute_error,
    mean_squared_error,
)
from milforge.functional.ranking import segment_auroc, segment_average_precision
from milforge.functional.scan import linear_scan
from milforge.functional.segment import (
    segment_index,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    segment_weighted_sum,
)
from milforge.functional.selection import segment_argmax, segment_rank

__all__ = [
    "attention_entropy",
    "attention_pool",
    "attention_supervision",
    "bag_attention",
    "binary_cross_entropy",
    "cross_entropy",
    "dirichlet_energy",
    "focal_loss",
    "huber_loss",
    "keyed_uniform",
    "known_mean",
    "linear_scan",
    "mean_absolute_error",
    "mean_squared_error",
    "relative_dirichlet_energy",
    "segment_argmax",
    "segment_auroc",
    "segment_average_precision",
    "segment_index",
    "segment_max",
    "segment_mean",
    "segment_rank",
    "segment_softmax",
    "segment_sum",
    "segment_weighted_sum",
    "weighted_sums",
]
