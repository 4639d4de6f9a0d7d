"""Figures: pure functions of data that return a `matplotlib.figure.Figure`, with no display."""

from milforge.plots.attention.attention_epochs import plot_attention_over_epochs
from milforge.plots.attention.attention_maps import plot_attention_comparison, plot_attention_maps
from milforge.plots.attention.bag_strips import BagStrip, plot_attention_bars, plot_bag_strips
from milforge.plots.attention.sampling import SampledImage, plot_sampled_patches
from milforge.plots.curves import plot_confusion, plot_learning_curves, plot_roc_pr
from milforge.plots.predicted import plot_predicted
from milforge.plots.report import GroupResult, plot_report
from milforge.plots.stream_weights import plot_stream_weights
from milforge.plots.survival import (
    plot_calibration_at,
    plot_kaplan_meier,
    plot_scores_over_time,
    plot_survival_curves,
)

__all__ = [
    "BagStrip",
    "GroupResult",
    "SampledImage",
    "plot_attention_bars",
    "plot_attention_comparison",
    "plot_attention_maps",
    "plot_attention_over_epochs",
    "plot_bag_strips",
    "plot_calibration_at",
    "plot_confusion",
    "plot_kaplan_meier",
    "plot_learning_curves",
    "plot_predicted",
    "plot_report",
    "plot_roc_pr",
    "plot_sampled_patches",
    "plot_scores_over_time",
    "plot_stream_weights",
    "plot_survival_curves",
]
