"""Figure of predicted numbers against the true ones."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from torch import Tensor

from milforge.plots.style import (
    BLUE,
    GREY,
    TEXT,
    label,
    new_figure,
    panel_grid,
    tidy,
)


def plot_predicted(
    predictions: Tensor | NDArray[np.floating],
    y: Tensor | NDArray[np.floating],
    names: Sequence[str],
) -> Figure:
    """Predicted against true numbers: a dot a bag, a panel a column, dashed where they are equal.

    Both axes have the same scale, so that distance from the dashed line is the error. The mean
    absolute error stands above it.

    Args:
        predictions: `(n,)` or `(n, O)` float.
        y: as `predictions`.
        names: the O names of the columns.

    Raises:
        ValueError: where the parts do not fit each other, or are not finite.

    Example:
        >>> figure = plot_predicted(torch.tensor([61.0, 40.0]), torch.tensor([60.0, 42.0]), ["age"])
        >>> figure.axes[0].get_title().splitlines()
        ['age', 'mean absolute error 1.5, n = 2']
    """
    predicted, truth = _table(predictions), _table(y)
    if predicted.shape != truth.shape or truth.shape[1:] != (len(names),) or not len(truth):
        raise ValueError(
            f"expected predictions and labels of at least one bag in {len(names)} columns, got "
            f"shapes {predicted.shape} and {truth.shape}"
        )
    for what, values in (("predictions", predicted), ("labels", truth)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"expected finite {what}, got {(~np.isfinite(values)).sum()} that are NaN or "
                "infinite"
            )
    rows, columns = panel_grid(len(names), 3)
    figure = new_figure(0.4 + 3.4 * columns, 0.4 + 3.5 * rows)
    for number, name in enumerate(names):
        ax = figure.add_subplot(rows, columns, number + 1)
        _draw_panel(ax, predicted[:, number], truth[:, number], label(name))
    handle = Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="predicted = true")
    figure.legend(handles=[handle], loc="outside upper center", fontsize=TEXT, frameon=False)
    return figure


def _table(values: Tensor | NDArray[np.floating]) -> NDArray[np.float64]:
    table = torch.as_tensor(values).detach().cpu().double().numpy()
    return table[:, None] if table.ndim == 1 else table


def _draw_panel(
    ax: Axes, predicted: NDArray[np.float64], truth: NDArray[np.float64], title: str
) -> None:
    low, high = min(predicted.min(), truth.min()), max(predicted.max(), truth.max())
    margin = 0.05 * (high - low) or max(0.05 * abs(high), 0.5)
    limits = low - margin, high + margin
    ax.plot(limits, limits, color=GREY, linestyle="--", linewidth=1, zorder=1)
    # Dots of many bags lie upon each other: the fainter, the more there are.
    strength = float(np.clip(20 / np.sqrt(len(truth)), 0.15, 0.7))
    ax.scatter(truth, predicted, s=14, color=BLUE, alpha=strength, linewidths=0, zorder=2)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    error = f"mean absolute error {np.abs(predicted - truth).mean():.3g}, n = {len(truth)}"
    tidy(ax, title=f"{title}\n{error}", xlabel="true", ylabel="predicted")
