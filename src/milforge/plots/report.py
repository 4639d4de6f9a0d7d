"""Figure of a report on many runs: each run, and mean and interval of each group."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFTBASE, CARETRIGHTBASE
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from milforge.plots.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    SILVER,
    SMALL,
    label,
    new_figure,
    panel_grid,
    tidy,
    top_legend,
)
from milforge.statistics.outliers import main_range

NAME_WIDTH, NAME_LINES = 44, 2  # characters a line, and lines, of the name of a group
LINE_HEIGHT, CHARACTER_WIDTH = 0.13, 0.066  # inches, of these
BAR, RUNS = -0.16, 0.14  # the bar stands above the line of a group and the runs below it


@dataclass(frozen=True)
class GroupResult:
    """A metric of a group of runs, or its differences from the baseline.

    Args:
        name: of the group.
        values: one a run, or one a pair of runs; there may be none.
        interval: of their mean, where there is one.
        note: stands in the line of the group instead of values.
    """

    name: str
    values: Sequence[float]
    interval: tuple[float, float] | None = None
    note: str = ""


def plot_report(
    panels: Mapping[str, Sequence[GroupResult]],
    differences: Mapping[str, Sequence[GroupResult]] | None = None,
) -> Figure:
    """One panel a metric, one line a group: runs as dots, their mean, and its interval as a bar.

    Beside it stands the panel of the differences from the baseline, where there is one. The axis
    shows the range of the runs, and zero in a panel of differences; an interval beyond it ends in
    an arrow. A run that lies far from all others is named at the end of the axis, or it would
    squeeze these together.

    Args:
        panels: metric to its groups, the same groups in the same order in each.
        differences: metric to the differences of the same groups; None, or without a metric:
            there are none.

    Raises:
        ValueError: where there is no panel or no group, or the groups of the panels differ.

    Example:
        >>> figure = plot_report({"test/auroc": [GroupResult("model=abmil", [0.8, 0.9], (0.7, 1))]})
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['model=abmil']
    """
    differences = differences or {}
    shown = [
        (metric, found, beside)
        for metric, groups in panels.items()
        for found, beside in ((groups, False), (differences.get(metric), True))
        if found is not None
    ]
    orders = {tuple(group.name for group in groups) for _, groups, _ in shown}
    if len(orders) != 1 or not any(orders):
        raise ValueError(
            f"expected panels of the same groups in the same order, got {len(panels)} panels with "
            f"{len(orders)} orders of groups"
        )
    (order,) = orders
    names = [_wrapped(name) for name in order]
    lines = [line for name in names for line in name.split("\n")]
    names_width = CHARACTER_WIDTH * max(map(len, lines))
    most = 4 if names_width < 2 or differences else 3  # a difference stands beside its metric
    rows, columns = panel_grid(len(shown), most)
    highest = max(name.count("\n") for name in names) + 1
    height = 0.8 + (0.16 + LINE_HEIGHT * highest) * len(names)
    figure = new_figure(0.4 + names_width + 2.5 * columns, 0.4 + height * rows)
    for number, (metric, groups, beside) in enumerate(shown):
        ax = figure.add_subplot(rows, columns, number + 1)
        limits = _limits([value for group in groups for value in group.values], zero=beside)
        # Student's t of two runs would leave no room for anything else.
        ax.set_xlim(limits)
        if beside:
            ax.axvline(0, color=INK, linewidth=0.8, zorder=1)
        for position, group in enumerate(groups):
            _draw_runs(ax, position, group)
            _draw_mean(ax, position, group, limits)
            _mark_beyond(ax, position, group, limits)
        title = [label(metric, 32), *["difference from the baseline"] * beside]
        tidy(ax, title="\n".join(title), xlabel="", ylabel="")
        ax.set_ylim(len(names) - 0.5, -0.5)  # the first group on top
        ax.set_yticks(range(len(names)), names if number % columns == 0 else [""] * len(names))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.grid(axis="x", color=PALE, linewidth=0.6)
        ax.set_axisbelow(True)
    dot = "run, or pair of runs" if differences else "run"
    top_legend(
        figure,
        [
            Line2D([], [], linestyle="", marker="o", markersize=4, color=SILVER, label=dot),
            Line2D([], [], marker="D", markersize=5, color=BLUE, label="mean, 95% interval"),
        ],
    )
    return figure


def _draw_runs(ax: Axes, position: int, group: GroupResult) -> None:
    heights = position + RUNS + _spread(len(group.values))
    ax.scatter(group.values, heights, s=14, color=SILVER, linewidths=0, zorder=2)
    if not group.values and group.note:
        ax.text(0, position, f" {group.note}", va="center", fontsize=SMALL, color=GREY)


def _limits(values: Sequence[float], *, zero: bool) -> tuple[float, float]:
    """The range of the runs, without those that lie alone, with some room; zero where asked."""
    low, high = main_range(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.06 * (high - low) or 0.05 * abs(low) or 0.01
    return low - margin, high + margin


def _mark_beyond(ax: Axes, position: int, group: GroupResult, limits: tuple[float, float]) -> None:
    """Names the runs beyond the axis at its end."""
    low, high = limits
    for end, beyond, arrow, side in (
        (low, [value for value in group.values if value < low], "◂ {}", "left"),
        (high, [value for value in group.values if value > high], "{} ▸", "right"),
    ):
        if beyond:
            text = arrow.format(", ".join(f"{value:.3g}" for value in beyond))
            ax.text(end, position + RUNS, text, ha=side, va="center", fontsize=SMALL, color=GREY)


def _draw_mean(ax: Axes, position: int, group: GroupResult, limits: tuple[float, float]) -> None:
    above = position + BAR
    if group.interval is not None:
        ax.plot(group.interval, (above, above), color=BLUE, linewidth=2, zorder=3)
        for end, beyond, arrow in (
            (limits[0], group.interval[0] < limits[0], CARETLEFTBASE),
            (limits[1], group.interval[1] > limits[1], CARETRIGHTBASE),
        ):
            if beyond:
                ax.plot(end, above, marker=arrow, markersize=6, color=BLUE, clip_on=False)
    if group.values:
        mean = np.mean(group.values)
        ax.plot(mean, above, marker="D", markersize=5, color=BLUE, mec="white", zorder=4)


def _spread(count: int) -> NDArray[np.float64]:
    """Offsets that keep equal values apart: the same in every figure."""
    return 0.26 * ((np.arange(count) * (math.sqrt(5) - 1) / 2 + 0.5) % 1 - 0.5)


def _wrapped(name: str) -> str:
    """A name in a few lines, broken between its words."""
    lines = wrap(name, NAME_WIDTH, break_long_words=False, break_on_hyphens=False)
    if len(lines) > NAME_LINES:
        lines[NAME_LINES - 1 :] = [" ".join(lines[NAME_LINES - 1 :])]
    return "\n".join(label(line, NAME_WIDTH) for line in lines)
