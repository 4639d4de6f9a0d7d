"""The look that all figures share: colours, text sizes, thin axes.

The colours are those of Okabe and Ito (2008), which readers with any colour vision tell apart.
Everything is set on the figure at hand; `matplotlib.rcParams` stays as the user left it.
"""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # a report, which draws, needs none

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY = "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, SILVER, PALE = "#222222", "#767676", "#A9B4C0", "#E4E7EB"

PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
LINE_STYLES = ("-", "-.", ":")

TITLE, TEXT, SMALL = 10, 9, 8  # points


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, laid out so that no texts collide, 150 dpi in files."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def panel_grid(count: int, most_columns: int) -> tuple[int, int]:
    """Rows and columns for so many panels, the rows filled as evenly as can be.

    Example:
        >>> panel_grid(4, 3)
        (2, 2)
    """
    rows = math.ceil(count / most_columns)
    return rows, math.ceil(count / rows)


def line_style(index: int) -> tuple[str, str]:
    """Colour and dash pattern of the curve of class `index`; 21 classes look different.

    Example:
        >>> line_style(0), line_style(7)
        (('#0072B2', '-'), ('#0072B2', '-.'))
    """
    dashes = LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)]
    return PALETTE[index % len(PALETTE)], dashes


def tidy(ax: Axes, *, title: str, xlabel: str, ylabel: str) -> None:
    """Titles the axes and leaves of its frame only two thin lines."""
    ax.set_title(title, fontsize=TITLE, color=INK)
    ax.set_xlabel(xlabel, fontsize=TEXT, color=INK)
    ax.set_ylabel(ylabel, fontsize=TEXT, color=INK)
    ax.tick_params(labelsize=SMALL, width=0.6, length=3, color=GREY, labelcolor=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(linewidth=0.6, color=GREY)


def label(text: str, length: int = 24) -> str:
    """A name as it may stand in a figure: shortened in the middle, `$` no mathematics.

    Example:
        >>> label("TCGA-A1-A0SB-01Z-00-DX1.B34C267B", 16)
        'TCGA-A1-…34C267B'
    """
    if len(text) > length:
        tail = (length - 1) // 2
        text = f"{text[: length - 1 - tail]}…{text[-tail:]}"
    return text.replace("$", r"\$")


def whole(text: str, width: int = 22) -> list[str]:
    """A name in as many lines as it takes, broken behind a sign where there is one; `$` no maths.

    Example:
        >>> whole("TCGA-A1-A0SB-01Z-00-DX1.B34C267B", 16)
        ['TCGA-A1-A0SB-', '01Z-00-DX1.', 'B34C267B']
        >>> whole("a" * 20, 16)
        ['aaaaaaaaaaaaaaaa', 'aaaa']
    """
    lines = [""]
    for piece in re.findall(r"[^-_. ]*[-_. ]?", text):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        while len(piece) > width:
            lines[-1], piece = piece[:width], piece[width:]
            lines.append("")
        lines[-1] += piece
    return [line.strip().replace("$", r"\$") for line in lines if line.strip()] or [""]


def top_legend(figure: Figure, handles: Sequence[Patch | Line2D]) -> None:
    """A legend above all panels."""
    figure.legend(
        handles=handles, loc="outside upper center", ncols=3, fontsize=TEXT, frameon=False
    )


def check_any(bags: Sequence[object]) -> None:
    """Raises a ValueError where there is no bag to draw."""
    if not bags:
        raise ValueError("expected at least one bag to draw, got none")


def as_pictures(images: "Tensor") -> NDArray[np.float32]:
    """Images `(k, C, H, W)` as `(k, H, W)` grey or `(k, H, W, 3)` RGB."""
    images = images.detach().cpu().float()
    return (images.movedim(1, -1) if images.shape[1] == 3 else images.mean(dim=1)).numpy()


def value_range(pictures: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """The values drawn black and white."""
    values = np.concatenate([images.ravel() for images in pictures])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    for low, high in (np.percentile(values, (0.5, 99.5)), (values.min(), values.max())):
        if low < high:
            return float(low), float(high)
    return float(low), float(low) + 1.0
