"""Figures: pure functions of data that return a `matplotlib.figure.Figure`, with no display."""

from milforge.plots.attention_maps import plot_attention_comparison, plot_attention_maps
from milforge.plots.bag_strips import BagStrip, plot_attention_bars, plot_bag_strips
from milforge.plots.curves import plot_confusion, plot_learning_curves, plot_roc_pr

__all__ = [
    "BagStrip",
    "plot_attention_bars",
    "plot_attention_comparison",
    "plot_attention_maps",
    "plot_bag_strips",
    "plot_confusion",
    "plot_learning_curves",
    "plot_roc_pr",
]
