"""Figures: pure functions of data that return a `matplotlib.figure.Figure`, with no display.

The parts are imported when they are asked for, because a report, which draws, needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milforge.plots.attention.attention_epochs import plot_attention_over_epochs
    from milforge.plots.attention.attention_maps import (
        plot_attention_comparison,
        plot_attention_maps,
    )
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

_PARTS = {
    "BagStrip": "attention.bag_strips",
    "GroupResult": "report",
    "SampledImage": "attention.sampling",
    "plot_attention_bars": "attention.bag_strips",
    "plot_attention_comparison": "attention.attention_maps",
    "plot_attention_maps": "attention.attention_maps",
    "plot_attention_over_epochs": "attention.attention_epochs",
    "plot_bag_strips": "attention.bag_strips",
    "plot_calibration_at": "survival",
    "plot_confusion": "curves",
    "plot_kaplan_meier": "survival",
    "plot_learning_curves": "curves",
    "plot_predicted": "predicted",
    "plot_report": "report",
    "plot_roc_pr": "curves",
    "plot_sampled_patches": "attention.sampling",
    "plot_scores_over_time": "survival",
    "plot_stream_weights": "stream_weights",
    "plot_survival_curves": "survival",
}


def __getattr__(name: str) -> Any:
    if name not in _PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PARTS[name]}"), name)
    globals()[name] = value
    return value
