"""A figure of how the attention of attention sampling changes while a network is trained."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from milforge.plots.attention.attention_heat import (
    BAR_SPACE,
    BAR_WIDTH,
    as_view,
    check_view,
    draw_bar,
    draw_heat,
    entropy,
    most_entropy,
    relative_attention,
)
from milforge.plots.attention.attention_scale import attention_norm
from milforge.plots.attention.panel_layout import bare_figure, fit, place, text_width
from milforge.plots.style import GREY, INK, SMALL, whole

MOST_EPOCHS = 8
GAP, APART, HEAD, FOOT = 0.25, 0.1, 0.25, 0.3  # inches: around, of columns, above and below a map
VIEW, NARROWEST, LOWEST = 1.6, 0.8, 1.0  # a map at most, its column and a row at least


def plot_attention_over_epochs(
    low: Sequence[Tensor],
    maps: Sequence[Sequence[Tensor]],
    epochs: Sequence[int],
    names: Sequence[str],
    *,
    receptive_field: int = 0,
    allowed: Sequence[Tensor] | None = None,
) -> Figure:
    """The attention maps of the same images at several epochs, over the images in grey.

    A row an image, a column an epoch: of more than 8 the first, the last, and 6 evenly between
    them. A map shows the number of cells times the attention, so 1 is uniform, in logarithms, on a
    scale that the maps of a row share: from 0.5 to 2 at least, and less than 0.1 looks like 0.1.
    Only the cells count that may be looked at; the others are transparent. Below each stands its
    entropy in nats; that of uniform attention stands beside the row.

    Args:
        low: k images `(C, h, w)` float or uint8, or one tensor `(k, C, h, w)`.
        maps: an epoch each, of k maps `(mh, mw)` or one tensor `(k, mh, mw)`, float, not negative;
            they need not sum to 1.
        epochs: number of each epoch.
        names: name of each image.
        receptive_field: as `patch_offsets` takes it; 0 for padded convolutions.
        allowed: `(mh, mw)` bool of each image, the cells that may be looked at; None: all.

    Raises:
        ValueError: where there is no image or no epoch, the counts do not fit each other, or an
            image or map has another shape or values.
    """
    masks = [None] * len(low) if allowed is None else list(allowed)
    _check(low, maps, epochs, names, receptive_field, masks)
    count = min(len(epochs), MOST_EPOCHS)
    chosen = np.linspace(0, len(epochs) - 1, count).round().astype(int).tolist()
    figure = bare_figure()
    labels = [
        _draw_label(figure.add_subplot(), name, most_entropy(first, mask))
        for name, first, mask in zip(names, maps[0], masks, strict=True)
    ]
    views = [fit((image.shape[1], image.shape[2]), (VIEW, VIEW)) for image in low]
    heights = [max(LOWEST, view[0]) for view in views]
    pitch = max(NARROWEST, *(view[1] for view in views)) + APART
    start = GAP + text_width([text for ax in labels for text in ax.texts]) + GAP
    width = start + count * pitch + BAR_SPACE + GAP
    figure.set_size_inches(width, sum(heights) + len(low) * (HEAD + FOOT))

    top = HEAD
    for row, (image, size, height) in enumerate(zip(low, views, heights, strict=True)):
        place(labels[row], GAP, top, (height, start - 2 * GAP))
        view = as_view(image)
        relative = [relative_attention(maps[epoch][row], masks[row]) for epoch in chosen]
        norm = attention_norm(np.concatenate([values.ravel() for values in relative]))
        for column, (epoch, values) in enumerate(zip(chosen, relative, strict=True)):
            ax = figure.add_subplot()
            place(ax, start + column * pitch + (pitch - APART - size[1]) / 2, top, size)
            draw_heat(ax, view, values, norm, receptive_field)
            ax.set_title(f"epoch {epochs[epoch]}", fontsize=SMALL, color=INK, pad=4)
            ax.set_xlabel(f"{entropy(maps[epoch][row]):.2f} nats", fontsize=SMALL, color=INK)
        cax = place(figure.add_subplot(), start + count * pitch, top, (height, BAR_WIDTH))
        draw_bar(cax, norm, below=min(values.min() for values in relative) < norm.vmin)
        top += height + HEAD + FOOT
    return figure


def _check(
    low: Sequence[Tensor],
    maps: Sequence[Sequence[Tensor]],
    epochs: Sequence[int],
    names: Sequence[str],
    receptive_field: int,
    masks: Sequence[Tensor | None],
) -> None:
    if not len(low) or not len(epochs):
        raise ValueError(
            f"expected at least one image and one epoch to draw, got {len(low)} images and "
            f"{len(epochs)} epochs"
        )
    if len(maps) != len(epochs) or len(names) != len(low) or len(masks) != len(low):
        raise ValueError(
            f"expected maps of {len(epochs)} epochs, and masks and names of {len(low)} images, got "
            f"maps of {len(maps)} epochs, {len(masks)} masks and {len(names)} names"
        )
    for epoch, of_epoch in zip(epochs, maps, strict=True):
        if len(of_epoch) != len(low):
            raise ValueError(
                f"epoch {epoch}: expected {len(low)} maps, one an image, got {len(of_epoch)}"
            )
        for name, image, attention, mask in zip(names, low, of_epoch, masks, strict=True):
            check_view(f"image {name!r}, epoch {epoch}", image, attention, receptive_field, mask)


def _draw_label(ax: Axes, name: str, most: float) -> Axes:
    """Names the image, and the most that the entropy of its maps can be."""
    style: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "fontsize": SMALL,
    }
    for number, line in enumerate(whole(name)[::-1]):
        place = (0, 6 + 12 * number)
        ax.annotate(line, (0, 0.5), place, color=INK, weight="bold", va="center", **style)
    text = f"uniform: {most:.2f} nats"
    ax.annotate(text, (0, 0.5), (0, -6), color=GREY, va="center", **style)
    ax.set_axis_off()
    return ax
