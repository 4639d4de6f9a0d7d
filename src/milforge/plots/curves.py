"""Figures of a run: learning curves, ROC and precision-recall, confusion matrix."""

import math
from collections.abc import Mapping, Sequence

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
    INK,
    SMALL,
    TEXT,
    VERMILION,
    label,
    line_style,
    new_figure,
    panel_grid,
    tidy,
)

STAGE_COLOURS = {"train": BLUE, "val": VERMILION}


def plot_learning_curves(
    history: Mapping[str, Sequence[tuple[float, float]]], *, best_epoch: int | None = None
) -> Figure:
    """Metrics over epochs: one panel a metric, training and validation in the same panel.

    Args:
        history: metric name to (epoch, value) points, e.g. `{"train/loss": [(0, 0.7)], "lr":
            [(0, 1e-3)]}`. A value that is not finite is a gap. `test/...` is left out: one point
            is no curve.
        best_epoch: marked by a vertical line, where given.

    Raises:
        ValueError: where no curve is left to draw.

    Example:
        >>> figure = plot_learning_curves({"train/loss": [(0, 0.7), (1, 0.4)], "lr": [(0, 0.1)]})
        >>> [ax.get_title() for ax in figure.axes]
        ['loss', 'lr']
    """
    panels: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    for name, points in history.items():
        stage, _, bare = name.partition("/")
        if stage == "test" or not points:
            continue
        if stage not in STAGE_COLOURS:
            stage, bare = "", name
        panels.setdefault(bare, {})[stage] = points
    if not panels:
        raise ValueError(
            f"expected a history with at least one curve of training or validation, got points "
            f"for {sorted(history)}: log a metric under train/ or val/"
        )

    rows, columns = panel_grid(len(panels), 3)
    figure = new_figure(0.6 + 3.3 * columns, 0.5 + 2.5 * rows)
    epochs = [epoch for curves in panels.values() for c in curves.values() for epoch, _ in c]
    margin = max(0.5, 0.03 * (max(epochs) - min(epochs)))
    for number, (bare, curves) in enumerate(panels.items()):
        ax = figure.add_subplot(rows, columns, number + 1)
        for stage, points in curves.items():
            _draw_curve(ax, points, STAGE_COLOURS.get(stage, INK))
        if best_epoch is not None:
            ax.axvline(best_epoch, color=GREY, linestyle="--", linewidth=1, zorder=1)
        ax.set_xlim(min(epochs) - margin, max(epochs) + margin)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        tidy(ax, title=label(bare, 36), xlabel="epoch", ylabel="")

    stages = [stage for stage in STAGE_COLOURS if any(stage in c for c in panels.values())]
    handles = [Line2D([], [], color=STAGE_COLOURS[stage], label=stage) for stage in stages]
    if best_epoch is not None:
        text = f"best epoch: {best_epoch}"
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1, label=text))
    if handles:
        figure.legend(
            handles=handles, loc="outside upper center", ncols=3, fontsize=TEXT, frameon=False
        )
    return figure


def _draw_curve(ax: Axes, points: Sequence[tuple[float, float]], colour: str) -> None:
    """A line with gaps where the value is not finite; points that no line reaches get a dot."""
    epochs, values = np.asarray(sorted(points), dtype=np.float64).T
    finite = np.isfinite(values)
    if not finite.any():
        text = "no finite value"
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", fontsize=TEXT, color=colour)
        ax.set_yticks([])
        return
    padded = np.pad(finite, 1)
    alone = finite & ~padded[:-2] & ~padded[2:]
    dots = np.flatnonzero(finite if len(points) <= 30 else alone)
    ax.plot(
        epochs,
        np.where(finite, values, np.nan),
        color=colour,
        linewidth=1.5,
        marker="o",
        markersize=3,
        markevery=dots.tolist(),
    )


def plot_roc_pr(
    probabilities: Tensor | NDArray[np.floating],
    y: Tensor | NDArray[np.integer],
    class_names: Sequence[str],
) -> Figure:
    """ROC curve and precision-recall curve side by side, the areas under them in the legends.

    Of two classes one curve, of the second; of more each against the rest; of several labels one
    of each. The dashed lines are chance: the diagonal, and each class's share of positives. A
    class whose labels are all alike has no curve; the legend says so.

    Args:
        probabilities: `(n, C)` float; of two classes also `(n,)` or `(n, 1)`, of the second.
        y: `(n,)` class numbers; or `(n, C)` of 0 and 1, several labels.
        class_names: the C names.

    Raises:
        ValueError: where the parts do not fit each other.
    """
    scores, labels = check_predictions(probabilities, y, class_names)
    names = class_names if scores.shape[1] > 1 else class_names[-1:]
    if labels.ndim == 2:
        truth = labels == 1
    else:  # of two classes the second alone
        truth = labels[:, None] == np.arange(len(class_names))[-len(names) :]

    legend_columns = 1 if len(names) <= 6 else 2
    figure = new_figure(8.4, 4.6 + 0.17 * math.ceil(len(names) / legend_columns))
    # Imported here because a run without figures does not wait for it.
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

    roc, pr = figure.subplots(1, 2)
    roc_handles, pr_handles = [], []
    for number, name in enumerate(names):
        colour, dashes = line_style(number)
        name, positive = label(name), truth[:, number]
        if positive.all() or not positive.any():
            missing = "negatives" if positive.all() else "positives"
            empty = Line2D([], [], linestyle="", label=f"{name}: no {missing}")
            roc_handles.append(empty)
            pr_handles.append(empty)
            continue
        curve = {"color": colour, "linestyle": dashes, "linewidth": 1.6, "zorder": 3}
        fpr, tpr, _ = roc_curve(positive, scores[:, number])
        roc_handles += roc.plot(fpr, tpr, label=f"{name}: AUC {auc(fpr, tpr):.3f}", **curve)
        precision, recall, _ = precision_recall_curve(positive, scores[:, number])
        average = average_precision_score(positive, scores[:, number])
        pr_handles += pr.plot(
            recall, precision, drawstyle="steps-post", label=f"{name}: AP {average:.3f}", **curve
        )
        pr.axhline(positive.mean(), color=colour, linestyle="--", linewidth=0.8, alpha=0.7)
    roc.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8)
    tidy(roc, title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    tidy(pr, title="Precision-recall", xlabel="recall", ylabel="precision")
    for ax, handles, chance in (
        (roc, roc_handles, "chance"),
        (pr, pr_handles, "chance (share of positives)"),
    ):
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=0.8, label=chance))
        ax.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=legend_columns,
            fontsize=SMALL,
            frameon=False,
        )
    return figure


def plot_confusion(
    probabilities: Tensor | NDArray[np.floating],
    y: Tensor | NDArray[np.integer],
    class_names: Sequence[str],
) -> Figure:
    """Confusion matrix: in each cell the count, and the share of the bags of its true class.

    The second of two classes, and each of several labels, is predicted where its probability
    exceeds 0.5, as torchmetrics does; of more classes the most probable one. Each of several
    labels has a panel.

    Args:
        probabilities: `(n, C)` float; of two classes also `(n,)` or `(n, 1)`, of the second.
        y: `(n,)` class numbers; or `(n, C)` of 0 and 1, several labels.
        class_names: the C names.

    Raises:
        ValueError: where the parts do not fit each other.
    """
    from sklearn.metrics import confusion_matrix

    scores, labels = check_predictions(probabilities, y, class_names)
    if labels.ndim == 2:
        rows, columns = panel_grid(len(class_names), 4)
        figure = new_figure(0.3 + 2.3 * columns, 2.5 * rows)
        for number, name in enumerate(class_names):
            ax = figure.add_subplot(rows, columns, number + 1)
            cells = confusion_matrix(labels[:, number], scores[:, number] > 0.5, labels=[0, 1])
            _draw_confusion(ax, cells, ["no", "yes"], title=label(name))
        return figure
    predicted = scores[:, 0] > 0.5 if scores.shape[1] == 1 else scores.argmax(axis=1)
    cells = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    side = 1.5 + max(0.58 * len(class_names), 2.0)
    figure = new_figure(side, side)
    _draw_confusion(figure.subplots(), cells, [label(name, 16) for name in class_names], title="")
    return figure


def _draw_confusion(ax: Axes, cells: NDArray[np.int64], names: list[str], *, title: str) -> None:
    totals = cells.sum(axis=1, keepdims=True)
    shares = cells / np.maximum(totals, 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = SMALL if len(names) <= 4 else SMALL - 1.5
    for (row, column), count in np.ndenumerate(cells):
        share = f"{shares[row, column]:.0%}" if totals[row, 0] else "n/a"
        ax.text(
            column,
            row,
            f"{count}\n{share}",
            ha="center",
            va="center",
            fontsize=size,
            color="white" if shares[row, column] > 0.6 else INK,
        )
    tidy(ax, title=title, xlabel="predicted", ylabel="true")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    if len(names) > 2 and max(map(len, names)) > 4:
        for text in ax.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def check_predictions(
    probabilities: Tensor | NDArray[np.floating],
    y: Tensor | NDArray[np.integer],
    class_names: Sequence[str],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities `(n, K)`, K = 1 of two classes, and labels, found to fit each other."""
    scores = torch.as_tensor(probabilities).detach().cpu().double().numpy()
    labels = torch.as_tensor(y).detach().cpu().long().numpy()
    count, classes = len(labels), len(class_names)
    if not count or labels.shape not in {(count,), (count, classes)}:
        raise ValueError(
            f"expected at least one label, y of shape ({count},) or ({count}, {classes}), got "
            f"{labels.shape}"
        )
    if labels.ndim == 1 and classes < 2:
        raise ValueError(f"expected at least two class names, got {list(class_names)}")
    two = labels.ndim == 1 and classes == 2
    if two and scores.shape in {(count,), (count, 1), (count, 2)}:
        scores = scores[:, None] if scores.ndim == 1 else scores[:, -1:]
    elif two or scores.shape != (count, classes):
        raise ValueError(
            f"expected probabilities of {count} bags and {classes} classes, got shape "
            f"{scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"expected finite probabilities, got {(~np.isfinite(scores)).sum()} that are NaN or "
            "infinite: the model has diverged"
        )
    highest = classes - 1 if labels.ndim == 1 else 1
    if labels.min() < 0 or labels.max() > highest:
        raise ValueError(
            f"expected labels from 0 to {highest}, got {labels.min()} to {labels.max()}"
        )
    return scores, labels
