"""Metrics that torchmetrics lacks, and the metrics of each task."""

from milforge.metrics.bag_metrics import bag_metrics
from milforge.metrics.localisation import LocalisationAUROC, LocalisationAveragePrecision

__all__ = ["LocalisationAUROC", "LocalisationAveragePrecision", "bag_metrics"]
