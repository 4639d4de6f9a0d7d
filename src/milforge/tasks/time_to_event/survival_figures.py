"""The figures of a task of censored times."""

from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from milforge.functional import Steps, brier_score, cumulative_dynamic_auc
from milforge.plots import (
    plot_calibration_at,
    plot_kaplan_meier,
    plot_scores_over_time,
    plot_survival_curves,
)
from milforge.tasks.base import Columns
from milforge.tasks.time_to_event.survival_curves import PREFIX

_CURVES = 7  # bags


def survival_figures(
    times: Sequence[float], cut: float, censoring: Steps, unit: str | None
) -> dict[str, Callable[[Columns, Tensor], Figure]]:
    """Name to what draws a figure of the columns of all test bags and their `(n, 2)` labels.

    Args:
        times: at which the survival is predicted.
        cut: the risk at which the groups are parted: the median of the training bags.
        censoring: G of the training part.
        unit: of the times.
    """
    names = [f"{PREFIX}{time:g}" for time in times]
    at = torch.tensor(times)  # float32, as the times of the bags: equal ones have to be equal

    def groups(columns: Columns, y: Tensor) -> Figure:
        high = columns["risk"] > cut
        words = f"risk groups cut at the training median, {cut:.3g}"
        return plot_kaplan_meier(y[:, 0], y[:, 1], high, words, unit)

    def curves(columns: Columns, y: Tensor) -> Figure:
        # From the lowest risk to the highest.
        order = columns["risk"].argsort()
        places = torch.linspace(0, len(order) - 1, min(_CURVES, len(order))).round().long()
        rows = order[places]
        survival = torch.stack([columns[name][rows] for name in names], 1)
        return plot_survival_curves(times, survival, y[rows, 0], y[rows, 1], unit)

    def calibration(columns: Columns, y: Tensor) -> Figure:
        middle = len(times) // 2
        return plot_calibration_at(columns[names[middle]], y[:, 0], y[:, 1], times[middle], unit)

    def scores(columns: Columns, y: Tensor) -> Figure:
        time, event = y.unbind(1)
        auc = cumulative_dynamic_auc(columns["risk"].double(), time, event, at, censoring)
        survival = torch.stack([columns[name] for name in names], 1)
        brier = brier_score(survival, time, event, at, censoring)
        brier = brier.masked_fill(at > time.max(), torch.nan)
        return plot_scores_over_time(times, auc, brier, unit)

    return {
        "kaplan_meier": groups,
        "survival_curves": curves,
        "calibration": calibration,
        "scores_over_time": scores,
    }
