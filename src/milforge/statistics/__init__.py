"""Statistics of predictions and of repeated runs.

Nothing but NumPy and SciPy is imported here, so that any program can use it:
`from milforge.statistics import auroc_interval`.
"""

from milforge.statistics.auroc import (
    AurocCovariance,
    AurocDifference,
    auroc,
    auroc_interval,
    compare_auroc,
    delong,
)
from milforge.statistics.bootstrap import BootstrapEstimate, cluster_bootstrap
from milforge.statistics.calibration import (
    brier_parts,
    debiased_ece,
    fit_temperature,
    recalibration,
    reliability_bins,
)
from milforge.statistics.conformal import class_thresholds, conformal_sets, conformal_threshold
from milforge.statistics.curves import (
    average_precision,
    decision_curve,
    precision_recall_curve,
    roc_curve,
)
from milforge.statistics.estimates import Estimate
from milforge.statistics.operating_point import (
    OperatingPoint,
    operating_point,
    sensitivity_threshold,
    youden_threshold,
)
from milforge.statistics.permutation import PermutationTest, paired_permutation
from milforge.statistics.proportions import clustered_proportion, wilson
from milforge.statistics.repeated_runs.corrections import benjamini_hochberg, holm
from milforge.statistics.repeated_runs.power import pairs_needed, pairs_to_find, power_of_pairs
from milforge.statistics.repeated_runs.repetitions import (
    Comparison,
    Interval,
    bootstrap_interval,
    compare_pairs,
)
from milforge.statistics.survival import concordance
from milforge.statistics.survival_scores import (
    dynamic_auroc,
    log_rank,
    mean_over_time,
    survival_brier,
)

__all__ = [
    "AurocCovariance",
    "AurocDifference",
    "BootstrapEstimate",
    "Comparison",
    "Estimate",
    "Interval",
    "OperatingPoint",
    "PermutationTest",
    "auroc",
    "auroc_interval",
    "average_precision",
    "benjamini_hochberg",
    "bootstrap_interval",
    "brier_parts",
    "class_thresholds",
    "cluster_bootstrap",
    "clustered_proportion",
    "compare_auroc",
    "compare_pairs",
    "concordance",
    "conformal_sets",
    "conformal_threshold",
    "debiased_ece",
    "decision_curve",
    "delong",
    "dynamic_auroc",
    "fit_temperature",
    "holm",
    "log_rank",
    "mean_over_time",
    "operating_point",
    "paired_permutation",
    "pairs_needed",
    "pairs_to_find",
    "power_of_pairs",
    "precision_recall_curve",
    "recalibration",
    "reliability_bins",
    "roc_curve",
    "sensitivity_threshold",
    "survival_brier",
    "wilson",
    "youden_threshold",
]
