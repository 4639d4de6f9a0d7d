"""A figure of attention sampling: what is drawn of large images, and from where."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from milforge.plots.attention.attention_heat import (
    BAR_SPACE,
    BAR_WIDTH,
    as_view,
    brightened,
    check_view,
    draw_bar,
    draw_heat,
    draw_view,
    entropy,
    most_entropy,
    relative_attention,
)
from milforge.plots.attention.attention_scale import attention_norm
from milforge.plots.attention.bag_strips import BagStrip, draw_row_label
from milforge.plots.attention.frames import BADGE, draw_frames, frames_in_view
from milforge.plots.attention.panel_layout import bare_figure, fit, place, text_width
from milforge.plots.style import INK, SMALL, as_pictures, value_range
from milforge.sampling.offsets import check_size

MOST_PATCHES = 16
GAP, HEAD, FOOT = 0.25, 0.25, 0.3  # inches: between panels, of texts above and below them
VIEW, NARROWEST, LOWEST = 2.8, 1.5, 1.0  # a view at most, its column and a row at least
PATCHES, LARGEST, PITCH, SPACE = (2.3, 5.6), 1.3, 0.8, 0.1  # all, a patch at most, its column
BESIDE = 0.25  # from the left of a patch to its probability, past its number


@dataclass(frozen=True, eq=False)
class SampledImage:
    """A large image as attention sampling saw it.

    Args:
        bag_id: name of the image.
        low: `(C, h, w)` float or uint8, the low-resolution image.
        attention: `(mh, mw)` float attention map, not negative; it need not sum to 1.
        patches: `(n, C, ph, pw)` float or uint8, in the order drawn.
        offsets: `(n, 2)` integer, row and column of their upper left corners at full resolution.
        high_size: height and width at full resolution.
        probabilities: `(n,)` float, of the patches in the order drawn.
        y: true label, as text.
        prediction: predicted label, as text; wrong where it is not `y`.
        probability: probability of the predicted label; None where the task has none.
        receptive_field: as `patch_offsets` takes it; 0 for padded convolutions.
        window: height and width of what a patch shows, at full resolution; None: the patch's own.
        allowed: `(mh, mw)` bool, the cells that may be looked at; None: all.

    Raises:
        ValueError: where a part has another shape or values, or a patch lies outside of the image.
    """

    bag_id: str
    low: Tensor
    attention: Tensor
    patches: Tensor
    offsets: Tensor
    high_size: tuple[int, int]
    probabilities: Tensor
    y: str
    prediction: str
    probability: float | None
    receptive_field: int = 0
    window: tuple[int, int] | None = None
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        where, count = f"image {self.bag_id!r}", len(self.patches)
        check_view(where, self.low, self.attention, self.receptive_field, self.allowed)
        if self.patches.ndim != 4 or not self.patches.numel():
            raise ValueError(
                f"{where}: expected patches of shape (n, C, ph, pw) with n at least 1, got "
                f"{tuple(self.patches.shape)}"
            )
        if tuple(self.probabilities.shape) != (count,):
            raise ValueError(
                f"{where}: expected probabilities of shape ({count},), one a patch, got "
                f"{tuple(self.probabilities.shape)}"
            )
        fit = (self.probabilities >= 0) & (self.probabilities <= 1)
        if not fit.all():
            raise ValueError(
                f"{where}: expected probabilities from 0 to 1, got {self.probabilities[~fit][0]:g}"
            )
        if tuple(self.offsets.shape) != (count, 2) or self.offsets.is_floating_point():
            raise ValueError(
                f"{where}: expected integer offsets of shape ({count}, 2), got "
                f"{self.offsets.dtype} of shape {tuple(self.offsets.shape)}"
            )
        check_size("high_size", self.high_size)
        first = self.offsets.cpu()
        last = first + torch.tensor(self.window or self.patches.shape[2:])
        outside = ((last <= 0) | (first >= torch.tensor(self.high_size))).any(dim=1)
        if outside.any():
            raise ValueError(
                f"{where}: expected patches within the image of {self.high_size[0]} x "
                f"{self.high_size[1]} pixels, got one at {first[outside][0].tolist()}: give row "
                "and column at full resolution"
            )


class _Block(NamedTuple):
    """How the patches of an image stand, in inches."""

    rows: int
    columns: int
    pitch: tuple[float, float]  # down and across, with what stands above a patch
    patch: tuple[float, float]  # height and width
    size: tuple[float, float]  # of the whole


def plot_sampled_patches(images: Sequence[SampledImage]) -> Figure:
    """Each image as sampling saw it: framed patches, the attention map, the patches.

    A row an image. Frames and patches are numbered in the order drawn, of more than 16 patches the
    first 16; a frame ends at the edge of the image, and patches drawn more than once share one.
    Above a patch stands its probability. The map shows the number of cells times the attention, so
    1 is uniform, in logarithms: from 0.5 to 2 at least, and less than 0.1 looks like 0.1. Only the
    cells count that may be looked at; the others are transparent. The image below it is grey.
    One channel is drawn grey, three as RGB, any other number as its mean.

    Args:
        images: at least one.

    Raises:
        ValueError: where there is no image.
    """
    if not images:
        raise ValueError("expected at least one sampled image to draw, got none")
    figure = bare_figure()
    labels = [_draw_label(figure.add_subplot(), image) for image in images]
    views = [fit((image.low.shape[1], image.low.shape[2]), (VIEW, VIEW)) for image in images]
    blocks = [_block(image, view[0]) for image, view in zip(images, views, strict=True)]
    heights = [max(LOWEST, v[0], b.size[0]) for v, b in zip(views, blocks, strict=True)]

    column = max(NARROWEST, *(view[1] for view in views))
    first = GAP + text_width([text for ax in labels for text in ax.texts]) + GAP
    second = first + column + GAP
    third = second + column + BAR_SPACE + GAP
    width = third + max(block.size[1] for block in blocks) + GAP
    figure.set_size_inches(width, sum(heights) + len(images) * (HEAD + FOOT))

    top = HEAD
    for ax, image, size, block, height in zip(labels, images, views, blocks, heights, strict=True):
        place(ax, GAP, top, (height, first - 2 * GAP))
        view, inset = as_view(image.low), (column - size[1]) / 2
        _draw_frames(place(figure.add_subplot(), first + inset, top, size), image, view, size)
        heat = place(figure.add_subplot(), second + inset, top, size)
        cax = figure.add_subplot()
        place(cax, second + inset + size[1] + 0.08, top, (max(size[0], LOWEST), BAR_WIDTH))
        _draw_attention(heat, cax, image, view)
        _draw_patches(figure, image, block, third, top)
        top += height + HEAD + FOOT
    return figure


def _draw_label(ax: Axes, image: SampledImage) -> Axes:
    count = len(image.patches)
    notes = [f"first {MOST_PATCHES} of {count} patches"] if count > MOST_PATCHES else []
    bag = BagStrip(
        image.bag_id, None, image.probabilities, image.y, image.prediction, image.probability
    )
    draw_row_label(ax, bag, notes=notes)
    return ax


def _block(image: SampledImage, height: float) -> _Block:
    """As many columns as make the patches largest beside a view of this height."""
    count = min(len(image.patches), MOST_PATCHES)
    high, wide = max(height, PATCHES[0]), PATCHES[1]
    blocks = []
    for columns in range(1, min(count, int(wide / PITCH)) + 1):
        rows = math.ceil(count / columns)
        box = (high + HEAD) / rows - HEAD, wide / columns - SPACE
        if box[0] > 0:
            patch = fit(
                (image.patches.shape[2], image.patches.shape[3]),
                (min(box[0], LARGEST), min(box[1], LARGEST)),
            )
            pitch = patch[0] + HEAD, max(patch[1] + SPACE, PITCH)
            size = rows * pitch[0] - HEAD, columns * pitch[1] - SPACE
            blocks.append(_Block(rows, columns, pitch, patch, size))
    return max(blocks, key=lambda block: (block.patch, -block.rows, -block.columns))


def _draw_frames(
    ax: Axes, image: SampledImage, view: NDArray[np.float32], size: tuple[float, float]
) -> None:
    draw_view(ax, view)
    offsets = image.offsets[:MOST_PATCHES].cpu().numpy()
    height, width = view.shape[:2]
    window = image.window or (image.patches.shape[2], image.patches.shape[3])
    frames = frames_in_view(offsets, window, image.high_size, (height, width))
    draw_frames(ax, frames, 72 * size[0] / height)
    ax.set_title("sampled patches", fontsize=SMALL, color=INK, pad=4)
    text = f"{image.high_size[1]:,} x {image.high_size[0]:,} pixels"
    ax.set_xlabel(text, fontsize=SMALL, color=INK)


def _draw_attention(ax: Axes, cax: Axes, image: SampledImage, view: NDArray[np.float32]) -> None:
    relative = relative_attention(image.attention, image.allowed)
    norm = attention_norm(relative)
    draw_heat(ax, view, relative, norm, image.receptive_field)
    ax.set_title("attention", fontsize=SMALL, color=INK, pad=4)
    reached = entropy(image.attention)
    most = most_entropy(image.attention, image.allowed)
    ax.set_xlabel(f"entropy {reached:.2f} of {most:.2f} nats", fontsize=SMALL, color=INK)
    draw_bar(cax, norm, below=bool(relative.min() < norm.vmin))


def _draw_patches(
    figure: Figure, image: SampledImage, block: _Block, left: float, top: float
) -> None:
    pictures = as_pictures(_unit(image.patches[:MOST_PATCHES]))
    # With the view, so that the noise of an empty background is not drawn black and white.
    black_white = value_range([pictures, as_pictures(_unit(image.low)[None])])
    for number, picture in enumerate(brightened(pictures, black_white)):
        row, column = divmod(number, block.columns)
        x, y = left + column * block.pitch[1], top + row * block.pitch[0]
        ax = place(figure.add_subplot(), x, y, block.patch)
        draw_view(ax, picture)
        ax.annotate(str(number + 1), (0, 1), (2, 4.5), "axes fraction", "offset points", **BADGE)
        ax.set_title(
            f"{image.probabilities[number]:.2g}",
            loc="left",
            x=BESIDE / block.patch[1],
            fontsize=SMALL,
            color=INK,
            pad=4,
        )


def _unit(images: Tensor) -> Tensor:
    """Bytes as what the networks see of them, from 0 to 1."""
    return images / 255 if images.dtype == torch.uint8 else images
