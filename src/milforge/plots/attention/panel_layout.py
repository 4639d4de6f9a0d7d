"""Panels at exact places: where the layout must know how large they are drawn."""

from collections.abc import Sequence
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from milforge.plots.style import new_figure


def bare_figure() -> Figure:
    """A figure whose panels `place` sets; its size is set by `set_size_inches` before."""
    figure = new_figure(1, 1)
    figure.set_layout_engine("none")
    return figure


def fit(size: tuple[int, int], box: tuple[float, float]) -> tuple[float, float]:
    """Height and width of an image of this height and width, as large as the box allows.

    Example:
        >>> fit((100, 400), (2.0, 2.0))
        (0.5, 2.0)
    """
    scale = min(box[0] / size[0], box[1] / size[1])
    return size[0] * scale, size[1] * scale


def place(ax: Axes, left: float, top: float, size: tuple[float, float]) -> Axes:
    """Sets axes of this height and width so many inches from the left and the top of the figure."""
    width, height = cast(Figure, ax.figure).get_size_inches()
    bottom = height - top - size[0]
    ax.set_position((left / width, bottom / height, size[1] / width, size[0] / height))
    return ax


def text_width(texts: Sequence[Text]) -> float:
    """Inches of the widest of the texts, of one line each."""
    paths = [TextPath((0, 0), text.get_text(), prop=text.get_fontproperties()) for text in texts]
    return max(path.get_extents().width for path in paths) / 72
