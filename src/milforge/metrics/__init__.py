"""Metrics that torchmetrics lacks, and how those of a config are put together."""

from milforge.metrics.bag_metrics import (
    CalibrationError,
    Kind,
    MacroAUROC,
    MacroAveragePrecision,
)
from milforge.metrics.configured import (
    build_metrics,
    direction_of,
    higher_is_better,
    missing_options,
    named_values,
)
from milforge.metrics.localisation import LocalisationAUROC, LocalisationAveragePrecision
from milforge.metrics.of_target import OfTarget
from milforge.metrics.regression import MAE, R2, RMSE, Pearson, Spearman
from milforge.metrics.survival import (
    ConcordanceIndex,
    CumulativeDynamicAUC,
    IntegratedBrierScore,
    UnoConcordanceIndex,
)

__all__ = [
    "MAE",
    "R2",
    "RMSE",
    "CalibrationError",
    "ConcordanceIndex",
    "CumulativeDynamicAUC",
    "IntegratedBrierScore",
    "Kind",
    "LocalisationAUROC",
    "LocalisationAveragePrecision",
    "MacroAUROC",
    "MacroAveragePrecision",
    "OfTarget",
    "Pearson",
    "Spearman",
    "UnoConcordanceIndex",
    "build_metrics",
    "direction_of",
    "higher_is_better",
    "missing_options",
    "named_values",
]
