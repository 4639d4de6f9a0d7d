"""Figures of censored times: risk groups, curves of bags, and whether they come true."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from milforge.functional import kaplan_meier
from milforge.plots.style import (
    BLUE,
    GREY,
    PALETTE,
    SMALL,
    TEXT,
    VERMILION,
    check_any,
    label,
    line_style,
    new_figure,
    tidy,
)


def plot_kaplan_meier(
    time: Tensor, event: Tensor, high: Tensor, cut: str, unit: str | None = None
) -> Figure:
    """Kaplan-Meier curves of the bags of low and of high risk, and how many are at risk.

    A mark is a censored bag. In the title stands the p of the log-rank test.

    Args:
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.
        high: `(n,)` bool, the bags of high risk.
        cut: where the groups are parted, in words.
        unit: of the times.

    Raises:
        ValueError: where there is no bag.

    Example:
        >>> time, event = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 1, 0, 1])
        >>> figure = plot_kaplan_meier(time, event, time < 3, "cut at 0.5")
        >>> figure.axes[0].get_title().splitlines()
        ['cut at 0.5', 'log-rank p = 0.0896, n = 4']
    """
    check_any(time.tolist())
    figure = new_figure(5.2, 4.4)
    above, below = figure.subplots(2, height_ratios=(5, 1), sharex=True)
    ticks = _ticks(float(time.max()))
    for row, (name, colour, chosen) in enumerate(
        (("low risk", BLUE, ~high), ("high risk", VERMILION, high))
    ):
        t, e = time[chosen], event[chosen]
        if not len(t):
            continue
        steps = kaplan_meier(t, e)
        x = np.concatenate([[0.0], steps.times.numpy()])
        y = np.concatenate([[1.0], steps.values.numpy()])
        above.step(x, y, where="post", color=colour, label=f"{name}, n = {len(t)}")
        lost = t[e == 0]
        above.plot(lost, steps.at(lost), "|", color=colour, markersize=6)
        for tick in ticks:
            text = str(int((t >= tick).sum()))
            below.text(tick, 1 - row, text, ha="center", va="center", fontsize=SMALL, color=colour)
    # Imported here: it takes long, and runs of other tasks do not need it.
    from milforge.statistics import log_rank

    p = log_rank(time.numpy(), event.numpy() > 0, high.numpy())
    said = "log-rank p undefined" if p is None else f"log-rank p = {p:.3g}"
    tidy(above, title=f"{cut}\n{said}, n = {len(time)}", xlabel="", ylabel="share that lives")
    above.set(ylim=(-0.02, 1.02), xlim=(-0.03 * ticks[-1], 1.05 * float(time.max())))
    above.legend(fontsize=TEXT, frameon=False)
    tidy(below, title="", xlabel=_time(unit), ylabel="")
    below.set(ylim=(-0.6, 1.6), xticks=ticks, yticks=[0, 1])
    below.set_yticklabels(["high", "low"], fontsize=SMALL)
    below.set_ylabel("at risk", fontsize=TEXT)
    return figure


def plot_survival_curves(
    times: Sequence[float],
    survival: Tensor,
    time: Tensor,
    event: Tensor,
    unit: str | None = None,
) -> Figure:
    """The predicted survival of some bags, each with a dot at its event or a bar at its censoring.

    Args:
        times: `(T,)`, at which the survival is predicted.
        survival: `(k, T)`.
        time: `(k,)` float.
        event: `(k,)`, 1 where the event has happened.
        unit: of the times.

    Raises:
        ValueError: where there is no bag.

    Example:
        >>> survival = torch.tensor([[0.9, 0.5], [0.4, 0.1]])
        >>> time, event = torch.tensor([2.0, 1.0]), torch.tensor([0, 1])
        >>> len(plot_survival_curves([1.0, 2.0], survival, time, event).axes[0].lines)
        4
    """
    check_any(time.tolist())
    figure = new_figure(5.2, 3.6)
    ax = figure.subplots()
    x = np.array([0.0, *times])
    for number, (curve, t, e) in enumerate(zip(survival.tolist(), time, event, strict=True)):
        y = np.array([1.0, *curve])
        colour, dashes = line_style(number)
        ax.plot(x, y, color=colour, linestyle=dashes, linewidth=1.2)
        at = float(np.interp(float(t), x, y))
        ax.plot([float(t)], [at], "o" if e > 0 else "|", color=colour, markersize=6)
    tidy(
        ax,
        title=f"{len(time)} bags (dot: event, bar: censored)",
        xlabel=_time(unit),
        ylabel="predicted survival",
    )
    ax.set(ylim=(-0.02, 1.02), xlim=(0, None))
    return figure


def plot_calibration_at(
    predicted: Tensor, time: Tensor, event: Tensor, at: float, unit: str | None = None
) -> Figure:
    """Predicted survival at a time against what Kaplan and Meier find, by groups of bags.

    The bags are parted into up to five groups of about the same size by what is predicted.

    Args:
        predicted: `(n,)`, the survival at that time.
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.
        at: the time.
        unit: of the times.

    Raises:
        ValueError: where there is no bag.

    Example:
        >>> p, time = torch.linspace(0, 1, 20), torch.linspace(1, 20, 20)
        >>> (ax,) = plot_calibration_at(p, time, torch.ones(20), 9.0).axes
        >>> len(ax.collections[0].get_offsets())
        5
    """
    check_any(time.tolist())
    groups = np.array_split(predicted.argsort(stable=True).numpy(), min(5, max(1, len(time) // 4)))
    points = np.array([_observed(predicted, time, event, at, rows) for rows in groups])
    figure = new_figure(4.0, 4.0)
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    ax.scatter(points[:, 0], points[:, 1], s=28, color=PALETTE[0])
    told = f" {label(unit)}" if unit else ""
    tidy(
        ax,
        title=f"survival at {at:g}{told}, n = {len(time)}",
        xlabel="predicted (mean of a group)",
        ylabel="observed (Kaplan-Meier)",
    )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure


def plot_scores_over_time(
    times: Sequence[float], auc: Tensor, brier: Tensor, unit: str | None = None
) -> Figure:
    """AUC and Brier score at each time; a time that has none is left out.

    Args:
        times: `(T,)`.
        auc: `(T,)`, NaN where there is none.
        brier: `(T,)`, NaN where there is none.
        unit: of the times.

    Example:
        >>> values = torch.tensor([0.7, 0.8])
        >>> figure = plot_scores_over_time([1, 2], values, 1 - values)
        >>> [ax.get_ylabel() for ax in figure.axes]
        ['AUC(t)', 'Brier score']
    """
    figure = new_figure(7.0, 3.2)
    for ax, values, name, level in zip(
        figure.subplots(1, 2), (auc, brier), ("AUC(t)", "Brier score"), (0.5, 0.25), strict=True
    ):
        ax.plot(list(times), values.double().numpy(), "o-", color=BLUE, markersize=4)
        ax.axhline(level, color=GREY, linestyle="--", linewidth=1)
        tidy(ax, title="", xlabel=_time(unit), ylabel=name)
    return figure


def _observed(
    predicted: Tensor, time: Tensor, event: Tensor, at: float, rows: NDArray[np.int64]
) -> tuple[float, float]:
    steps = kaplan_meier(time[rows], event[rows])
    return float(predicted[rows].mean()), float(steps.at(torch.tensor([at])))


def _ticks(last: float) -> list[float]:
    """About six round times from 0."""
    raw = last / 5
    scale = 10 ** np.floor(np.log10(raw))
    step = scale * min((1, 2, 2.5, 5, 10), key=lambda each: abs(each * scale - raw))
    return [float(each) for each in np.arange(0, last + 1e-9, step)]


def _time(unit: str | None) -> str:
    return f"time, {label(unit)}" if unit else "time"
