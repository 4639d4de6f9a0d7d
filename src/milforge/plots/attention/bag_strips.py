"""Figures of bags: what is in them, and where the attention lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from torch import Tensor

from milforge.plots.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    SMALL,
    VERMILION,
    as_pictures,
    check_any,
    label,
    new_figure,
    panel_grid,
    tidy,
    top_legend,
    value_range,
    whole,
)

FEWEST_COLUMNS = 4  # below this the legend would be wider than the strips
MANY_INSTANCES = 50  # above this the ranks are drawn in logarithms


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A slide that the tiles of a bag were cut from.

    Args:
        picture: `(H, W, 3)` uint8, the whole slide.
        width: of the slide in units of the coords; its corner is their origin.
        height: the same.
    """

    picture: NDArray[np.uint8]
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class BagStrip:
    """A bag as a figure shows it.

    Args:
        bag_id: name of the bag.
        images: `(n, C, H, W)` float instances, None where they are no images.
        weights: `(n,)` float attention weights, not negative.
        y: true label, as text.
        prediction: predicted label, as text; wrong where it is not `y`.
        probability: probability of the predicted label; None where the task has none.
        y_inst: `(n,)` instance labels, 1 where positive, -1 where unknown.
        coords: `(n, 2)` or `(n, 3)` places of the instances: x to the right, y downwards, and the
            third axis across the slices of a volume.
        unit: what a scale bar is in, such as `µm`; None: there is none.
        per_coord: so many of that unit are one of the coords.
        slide: what the tiles, whose upper left corners the coords are, lie on.

    Raises:
        ValueError: where the parts do not describe the same instances, or there are none.
    """

    bag_id: str
    images: Tensor | None
    weights: Tensor
    y: str
    prediction: str
    probability: float | None
    y_inst: Tensor | None = None
    coords: Tensor | None = None
    unit: str | None = None
    per_coord: float = 1.0
    slide: Backdrop | None = None

    def __post_init__(self) -> None:
        where = f"bag {self.bag_id!r}"
        size = len(self)
        if self.weights.ndim != 1 or not size:
            raise ValueError(
                f"{where}: expected weights of shape (n,) with n at least 1, got "
                f"{tuple(self.weights.shape)}"
            )
        fit = torch.isfinite(self.weights) & (self.weights >= 0)
        if not fit.all():
            raise ValueError(
                f"{where}: expected finite weights of 0 or more, got {self.weights[~fit][0]:g}: "
                "give attention weights, not scores"
            )
        if self.images is not None and (self.images.ndim != 4 or len(self.images) != size):
            raise ValueError(
                f"{where}: expected images of shape ({size}, C, H, W), got "
                f"{tuple(self.images.shape)}"
            )
        if self.y_inst is not None and tuple(self.y_inst.shape) != (size,):
            raise ValueError(
                f"{where}: expected y_inst of shape ({size},), got {tuple(self.y_inst.shape)}"
            )
        if self.coords is None:
            return
        if tuple(self.coords.shape) not in {(size, 2), (size, 3)}:
            raise ValueError(
                f"{where}: expected coords of shape ({size}, 2) or ({size}, 3), got "
                f"{tuple(self.coords.shape)}"
            )
        lost = (~torch.isfinite(self.coords)).any(dim=1)
        if lost.any():
            raise ValueError(
                f"{where}: expected finite coords, got {int(lost.sum())} of {size} instances with "
                "NaN or infinity: remove these instances"
            )

    def __len__(self) -> int:
        """Number of instances."""
        return self.weights.numel()

    @property
    def wrong(self) -> bool:
        """Whether the prediction misses the true label; a number never does."""
        return self.probability is not None and self.prediction != self.y

    @property
    def positive(self) -> NDArray[np.bool_]:
        """`(n,)`, the instances known to be positive."""
        if self.y_inst is None:
            return np.zeros(len(self), dtype=np.bool_)
        return (self.y_inst == 1).cpu().numpy()


def plot_bag_strips(bags: Sequence[BagStrip], *, max_instances: int = 12) -> Figure:
    """Each bag as a strip of its instance images, titled with their attention weights.

    The bar below an image is its weight relative to the largest of the bag; a frame marks a
    positive instance. Of a larger bag the `max_instances` instances of largest weight are shown,
    in their order in the bag. One channel is drawn grey, three as RGB, any other number as its
    mean; black and white are the 0.5th and the 99.5th percentile of all images of the figure.

    Args:
        bags: at least one, all with images.
        max_instances: most images in a strip.

    Raises:
        ValueError: where there is no bag, or a bag has no images.
    """
    check_any(bags)
    kept = [_largest(bag.weights, max_instances) for bag in bags]
    pictures = [_pictures(bag, index) for bag, index in zip(bags, kept, strict=True)]
    low, high = value_range(pictures)

    columns = max(FEWEST_COLUMNS, *map(len, kept))
    figure = new_figure(1.9 + 0.92 * columns, 0.4 + 1.32 * len(bags))
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.07, wspace=0, hspace=0)
    grid = figure.add_gridspec(len(bags), columns + 1, width_ratios=[2.0] + [1.0] * columns)
    for row, (bag, index, images) in enumerate(zip(bags, kept, pictures, strict=True)):
        notes = [f"{len(index)} of {len(bag)} shown"] if len(index) < len(bag) else []
        draw_row_label(figure.add_subplot(grid[row, 0]), bag, notes=notes)
        weights = bag.weights.detach().cpu().double().numpy()
        relative = weights / max(weights.max(), np.finfo(np.float64).tiny)
        for column, (instance, image) in enumerate(zip(index, images, strict=True)):
            ax = figure.add_subplot(grid[row, column + 1])
            scaled = np.nan_to_num((image - low) / (high - low)).clip(0, 1)
            ax.imshow(scaled, cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"{weights[instance]:.2f}", fontsize=SMALL, color=INK, pad=3)
            _frame(ax, positive=bool(bag.positive[instance]))
            _draw_bar(ax, relative[instance])
    handles = [Patch(color=BLUE, label="attention, relative to the bag's largest")]
    if any(bag.positive[index].any() for bag, index in zip(bags, kept, strict=True)):
        frame = Patch(facecolor="none", edgecolor=ORANGE, linewidth=2, label="positive instance")
        handles.append(frame)
    top_legend(figure, handles)
    return figure


def plot_attention_bars(bags: Sequence[BagStrip]) -> Figure:
    """The attention weights of each bag, largest first, the positive instances in colour.

    For instances that are no images, and bags of any size. The dashed line is 1 / n, the weight
    that every instance has where the attention prefers none.

    Args:
        bags: at least one; their images are not looked at.

    Raises:
        ValueError: where there is no bag.
    """
    check_any(bags)
    rows, columns = panel_grid(len(bags), 3)
    figure = new_figure(max(0.4 + 3.1 * columns, 5.0), 0.4 + 2.6 * rows)
    for number, bag in enumerate(bags):
        ax = figure.add_subplot(rows, columns, number + 1)
        _draw_sorted_weights(ax, bag)
    handles: list[Patch | Line2D] = [Patch(color=BLUE, label="instance")]
    if any(bag.positive.any() for bag in bags):
        handles.append(Patch(color=ORANGE, label="positive instance"))
    handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="1 / n"))
    top_legend(figure, handles)
    return figure


def _largest(weights: Tensor, count: int) -> NDArray[np.int64]:
    """The instances of largest weight, in their order in the bag."""
    order = torch.argsort(weights, descending=True, stable=True)
    return order[:count].sort().values.cpu().numpy()


def _pictures(bag: BagStrip, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """The chosen images as `as_pictures` has them."""
    if bag.images is None:
        raise ValueError(
            f"bag {bag.bag_id!r}: expected images to draw a strip, got None: plot_attention_bars "
            "draws bags whose instances are no images"
        )
    return as_pictures(bag.images[torch.from_numpy(index)])


def _frame(ax: Axes, *, positive: bool) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(color=ORANGE if positive else PALE, linewidth=2.5 if positive else 0.6)


def _draw_bar(ax: Axes, share: float) -> None:
    """A bar below the image, as long as its share of the image's width, on a pale track."""
    for width, colour in ((1.0, PALE), (share, BLUE)):
        ax.add_patch(
            Rectangle((0, -0.13), width, 0.07, color=colour, transform=ax.transAxes, clip_on=False)
        )


def draw_row_label(ax: Axes, bag: BagStrip, *, notes: Sequence[str], verdict: bool = True) -> None:
    """Names the bag, its true label, its predicted one where asked to, and notes in grey."""
    lines = [(line, INK, "bold") for line in whole(bag.bag_id)]
    lines.append((f"true: {label(bag.y, 18)}", INK, "normal"))
    if verdict:
        colour, weight = (VERMILION, "bold") if bag.wrong else (INK, "normal")
        lines.append((predicted(bag), colour, weight))
    lines += [(note, GREY, "normal") for note in notes]
    for number, (text, colour, weight) in enumerate(lines):
        ax.annotate(
            text,
            (0, 0.5),
            xytext=(0, 12 * ((len(lines) - 1) / 2 - number)),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=colour,
            weight=weight,
        )
    ax.set_axis_off()


def predicted(bag: BagStrip) -> str:
    """The predicted label with its probability, if it has one, and whether it is wrong."""
    verdict = "wrong" if bag.wrong else "predicted"
    sure = "" if bag.probability is None else f" ({bag.probability:.2f})"
    return f"{verdict}: {label(bag.prediction, 16)}{sure}"


def _draw_sorted_weights(ax: Axes, bag: BagStrip) -> None:
    weights = bag.weights.detach().cpu().double().numpy()
    order = np.argsort(-weights, kind="stable")
    ordered, positive = weights[order], bag.positive[order]
    ranks, many = np.arange(1, len(bag) + 1), len(bag) > MANY_INSTANCES
    for chosen, colour in ((~positive, BLUE), (positive, ORANGE)):
        if many:
            # One shape for all; the line around it keeps a single positive instance in sight.
            values, edges = np.where(chosen, ordered, np.nan), np.arange(len(bag) + 1) + 0.5
            ax.stairs(values, edges, fill=True, facecolor=colour, edgecolor=colour, linewidth=0.5)
        else:
            ax.bar(ranks[chosen], ordered[chosen], width=0.85, color=colour)
    ax.axhline(1 / len(bag), color=GREY, linestyle="--", linewidth=1)
    name = "\n".join(whole(bag.bag_id, 32))
    title = f"{name}\ntrue: {label(bag.y)}\n{predicted(bag)}"
    tidy(ax, title=title, xlabel="rank of the instance", ylabel="attention weight")
    ax.title.set(fontsize=SMALL, color=VERMILION if bag.wrong else INK)
    if many:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    else:
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.set(xlim=(0.5, len(bag) + 0.5), ylim=(0, max(1.05 * ordered[0], 1.2 / len(bag))))
