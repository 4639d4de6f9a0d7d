"""The scale that attention is drawn on: multiples of the uniform weight, in logarithms."""

import math

import numpy as np
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from milforge.plots.style import GREY, INK, SMALL


def attention_norm(relative: NDArray[np.float64]) -> LogNorm:
    """From 0.5 to 2 at least, so that even attention looks even; less than 0.1 looks like 0.1.

    Args:
        relative: attention weights, 1 where uniform.

    Example:
        >>> norm = attention_norm(np.array([0.0, 0.5, 2.5]))
        >>> norm.vmin, float(norm.vmax)
        (0.1, 2.5)
    """
    return LogNorm(min(max(relative.min(), 0.1), 0.5), max(relative.max(), 2.0), clip=True)


def dress_scale(bar: Colorbar, text: str) -> None:
    """Ticks at 1, 2 and 5 of each decade, or at the decades where there are many; no frame."""
    low, high = bar.ax.get_ylim()
    factors = (1, 2, 5) if high / low < 200 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    bar.set_ticks(ticks, labels=[f"{tick:,g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=SMALL, width=0.6, length=3, color=GREY, labelcolor=INK)
    bar.set_label(text, fontsize=SMALL, color=INK)
    bar.outline.set_visible(False)
