"""Figure of the weights of the streams over epochs."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from milforge.plots.style import GREY, INK, label, line_style, new_figure, tidy, top_legend

STAGES: dict[str, Literal["-", "--"]] = {"train": "--", "val": "-"}
_MEASURE = "weight_"

History = Mapping[str, Sequence[tuple[float, float]]]


def plot_stream_weights(history: History, *, best_epoch: int | None = None) -> Figure:
    """The mean weight of each stream over epochs, of all streams in one panel.

    Args:
        history: metric name to (epoch, value) points; those named `train/weight_<stream>` and
            `val/weight_<stream>` are drawn. A value that is not finite is a gap.
        best_epoch: marked by a vertical line, where given.

    Raises:
        ValueError: where there is no such metric.

    Example:
        >>> figure = plot_stream_weights({"val/weight_uni": [(0, 0.5), (1, 0.7)], "lr": [(0, 0.1)]})
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['uni', 'val']
    """
    curves = {
        (stage, stream): points
        for name, points in history.items()
        for stage, stream in [stage_and_stream(name)]
        if stage in STAGES and points
    }
    if not curves:
        raise ValueError(
            f"expected a history with weights of streams, train/{_MEASURE}<stream> or "
            f"val/{_MEASURE}<stream>, got {sorted(history)}"
        )
    streams = sorted({stream for _, stream in curves})
    colours = {stream: line_style(number)[0] for number, stream in enumerate(streams)}
    figure = new_figure(6, 3.6)
    ax = figure.subplots()
    for (stage, stream), points in curves.items():
        epochs, values = np.asarray(sorted(points), dtype=np.float64).T
        ax.plot(
            epochs,
            np.where(np.isfinite(values), values, np.nan),
            color=colours[stream],
            linestyle=STAGES[stage],
            linewidth=1.5,
            marker="o" if len(points) <= 30 else None,
            markersize=3,
        )
    handles = [Line2D([], [], color=colours[each], label=label(each)) for each in streams]
    handles += [
        Line2D([], [], color=INK, linestyle=dashes, label=stage)
        for stage, dashes in STAGES.items()
        if any(stage == drawn for drawn, _ in curves)
    ]
    if best_epoch is not None:
        ax.axvline(best_epoch, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
        text = f"best epoch: {best_epoch}"
        handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=1.2, label=text))
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    tidy(ax, title="Weights of the streams", xlabel="epoch", ylabel="weight, mean over bags")
    top_legend(figure, handles)
    return figure


def stage_and_stream(metric: str) -> tuple[str, str]:
    """Stage and stream of the name of a metric; two empty texts where it is no weight.

    Example:
        >>> stage_and_stream("val/weight_conch_v1.5"), stage_and_stream("val/loss")
        (('val', 'conch_v1.5'), ('', ''))
    """
    stage, _, measure = metric.partition("/")
    stream = measure.removeprefix(_MEASURE)
    return ("", "") if stream == measure else (stage, stream)
