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
from milforge.functional.ordinal import conditional_nll, cumulative_nll
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
from milforge.functional.time_to_event.censoring import Steps, baseline_hazard, kaplan_meier
from milforge.functional.time_to_event.concordance import concordance_index
from milforge.functional.time_to_event.survival import cox_nll, discrete_survival_nll, weibull_nll
from milforge.functional.time_to_event.survival_scores import brier_score, cumulative_dynamic_auc

__all__ = [
    "Steps",
    "attention_entropy",
    "attention_pool",
    "attention_supervision",
    "bag_attention",
    "baseline_hazard",
    "binary_cross_entropy",
    "brier_score",
    "concordance_index",
    "conditional_nll",
    "cox_nll",
    "cross_entropy",
    "cumulative_dynamic_auc",
    "cumulative_nll",
    "dirichlet_energy",
    "discrete_survival_nll",
    "focal_loss",
    "huber_loss",
    "kaplan_meier",
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
    "weibull_nll",
    "weighted_sums",
]
