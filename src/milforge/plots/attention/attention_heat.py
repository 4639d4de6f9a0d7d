"""An attention map as heat over the low-resolution image that it was computed from."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from numpy.typing import NDArray
from scipy.special import entr
from torch import Tensor

from milforge.plots.attention.attention_scale import dress_scale
from milforge.plots.style import PALE, as_pictures, value_range

ALPHA = 0.6
SHADES = 0.2, 0.9  # of the image below, so that its black does not swallow the heat
BAR_WIDTH, BAR_SPACE = 0.12, 1.0  # inches: of the bar, and with its text


def check_view(
    where: str,
    low: Tensor,
    attention: Tensor,
    receptive_field: int,
    allowed: Tensor | None = None,
) -> None:
    """Raises a ValueError, which begins with `where`, unless the map fits the image.

    Args:
        where: what the image is called.
        low: `(C, h, w)`, not empty.
        attention: `(mh, mw)` finite, not negative, not all zero.
        receptive_field: at least 0 and below the size of the image.
        allowed: `(mh, mw)` bool, not all False; None: all.
    """
    if low.ndim != 3 or not low.numel():
        raise ValueError(
            f"{where}: expected a low-resolution image of shape (C, h, w), got {tuple(low.shape)}"
        )
    if attention.ndim != 2 or not attention.numel():
        raise ValueError(
            f"{where}: expected an attention map of shape (mh, mw), got {tuple(attention.shape)}: "
            "give one image's map, without a batch or channel dimension"
        )
    if not (attention.isfinite().all() and (attention >= 0).all() and (attention > 0).any()):
        raise ValueError(
            f"{where}: expected an attention map of finite values of 0 or more, not all zero, got "
            f"values from {attention.min():g} to {attention.max():g}: give the attention after the "
            "softmax, of a model that has not diverged"
        )
    if not 0 <= receptive_field < min(low.shape[1:]):
        raise ValueError(
            f"{where}: expected a receptive field of at least 0 and below the image size "
            f"{tuple(low.shape[1:])}, got {receptive_field}"
        )
    if allowed is not None and (allowed.shape != attention.shape or not allowed.any()):
        raise ValueError(
            f"{where}: expected the cells that may be looked at of shape "
            f"{tuple(attention.shape)}, as the map, and at least one, got "
            f"{int(allowed.sum())} of shape {tuple(allowed.shape)}"
        )


def as_view(low: Tensor) -> NDArray[np.float32]:
    """An image `(C, h, w)` as `(h, w)` grey or `(h, w, 3)` RGB, from 0 to 1."""
    (picture,) = as_pictures(low[None])
    return brightened(picture, value_range([picture]))


def brightened(
    pictures: NDArray[np.float32], black_white: tuple[float, float]
) -> NDArray[np.float32]:
    """Pictures with these values at 0 and 1, what lies beyond or is not finite at these ends."""
    black, white = black_white
    scaled: NDArray[np.float32] = np.nan_to_num((pictures - black) / (white - black)).clip(0, 1)
    return scaled


def draw_view(ax: Axes, view: NDArray[np.float32]) -> None:
    """The image alone."""
    ax.imshow(view, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    ax.set(xticks=[], yticks=[], xlim=(-0.5, view.shape[1] - 0.5), ylim=(view.shape[0] - 0.5, -0.5))
    ax.spines[:].set(color=PALE, linewidth=0.6)


def relative_attention(attention: Tensor, allowed: Tensor | None = None) -> NDArray[np.float64]:
    """A map `(mh, mw)` divided by its mean: 1 where uniform.

    Args:
        attention: the map.
        allowed: `(mh, mw)` bool, the cells that may be looked at: the mean is theirs, and the
            others are 1. None: all.
    """
    values = attention.detach().cpu().double().numpy()
    if allowed is None:
        relative: NDArray[np.float64] = values / values.mean()
        return relative
    within = allowed.cpu().numpy()
    relative = np.where(within, values / values[within].mean(), 1)
    return relative


def entropy(attention: Tensor) -> float:
    """Entropy of a map in nats, from 0, all at one cell, to `most_entropy`."""
    values = attention.detach().cpu().double().numpy()
    return float(entr(values / values.sum()).sum())


def most_entropy(attention: Tensor, allowed: Tensor | None = None) -> float:
    """Entropy of uniform attention over as many cells, of those that are allowed, in nats."""
    return math.log(attention.numel() if allowed is None else int(allowed.sum()))


def draw_heat(
    ax: Axes,
    view: NDArray[np.float32],
    relative: NDArray[np.float64],
    norm: LogNorm,
    receptive_field: int,
) -> None:
    """The map over the image in grey, cell by cell where `patch_offsets` sees the cells.

    It is transparent where attention is uniform.

    Args:
        ax: empty.
        view: as `as_view` returns it.
        relative: `(mh, mw)` as `relative_attention` returns it.
        norm: scale of the colours.
        receptive_field: pixels of the image that the map has lost, half of them on either side.
    """
    grey = view if view.ndim == 2 else view.mean(axis=2)
    black, white = SHADES
    draw_view(ax, black + (white - black) * grey)
    edge, (height, width) = receptive_field / 2 - 0.5, grey.shape
    extent = (edge, width - 1 - edge, height - 1 - edge, edge)
    ax.imshow(
        relative,
        cmap=colormaps["viridis"],
        norm=norm,
        # Where attention is uniform nothing is said, and the image is seen.
        alpha=ALPHA * told(relative),
        extent=extent,
        interpolation="antialiased",
        interpolation_stage="data",
    )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def told(relative: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much a map says: from 0, where attention is uniform, to 1 from twice or half of that on.

    Example:
        >>> told(np.array([1.0, 2.0, 0.1, 2**0.5])).round(2).tolist()
        [0.0, 1.0, 1.0, 0.5]
    """
    ratio = np.maximum(relative, np.finfo(np.float64).tiny)
    return np.clip(np.abs(np.log2(ratio)), 0, 1)


def draw_bar(cax: Axes, norm: LogNorm, *, below: bool) -> None:
    """The scale of the heat in axes of its own; a tip where there are values below it."""
    # Opaque: between the heat over black and the heat over white.
    colours = ScalarMappable(norm, colormaps["viridis"])
    bar = Colorbar(cax, colours, extend="min" if below else "neither", extendfrac=0.04)
    dress_scale(bar, "cells · attention\n(uniform: 1)")
