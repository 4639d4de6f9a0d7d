"""Figures as SVG within the page: lines, points, and intervals.

Series differ by colour, dashes and marks, so that they can be told apart in print.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milforge.markup import Markup, join, tag
from milforge.statistics.outliers import main_range

WIDTH, HEIGHT = 380, 320
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 12, 44
DASHES = ("none", "7 3", "2 2", "8 3 2 3", "4 2", "1 3")
COLOURS = 7  # of the style sheet
UNIT = (0.0, 1.0)
MOST_POINTS = 160  # of a line


@dataclass(frozen=True)
class Series:
    """What a figure shows of a group.

    Attributes:
        name: in the legend.
        x: `(n,)`.
        y: `(n,)`.
        low: lower ends of a band or of bars; None: none.
        high: upper ends.
        kind: `line`; `points`, with bars; or `both`.
        labels: what is said of each point; None: its numbers.
        plain: whether it is drawn thin and grey, as something to compare with.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    kind: str = "line"
    labels: Sequence[str] | None = None
    plain: bool = False


def chart(
    series: Sequence[Series],
    *,
    title: str,
    x: str,
    y: str,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
) -> Markup:
    """A figure with axes and a legend whose entries show and hide the series.

    Args:
        series: what to draw.
        title: of the figure.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        xlim: ends of the axis; None: those of the data.
        ylim: the same of the other.
    """
    ends_x = xlim or _ends([v for each in series for v in each.x])
    ends_y = ylim or _ends(
        [v for each in series for v in [*each.y, *(each.low or ()), *(each.high or ())]]
    )
    frame = _Frame(ends_x, ends_y)
    drawn, entries, number = [], [], 0
    for index, each in enumerate(series):
        style = "plain" if each.plain else f"s{number % COLOURS}"
        dash = "4 3" if each.plain else DASHES[number % len(DASHES)]
        drawn.append(_series(each, index, style, dash, number, frame))
        swatch = tag(
            "svg",
            tag("line", x1=0, y1=6, x2=26, y2=6, class_=style, stroke_dasharray=dash),
            "" if each.plain else _mark(number, 13, 6, style),
            width=26,
            height=12,
            aria_hidden="true",
        )
        entries.append(
            tag("button", swatch, each.name, type="button", data_s=index, aria_pressed="true")
        )
        number += not each.plain
    picture = tag(
        "svg",
        frame.axes(x, y),
        *drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: {y} against {x}",
    )
    return tag(
        "figure",
        tag("figcaption", title),
        picture,
        tag("div", *entries, class_="legend"),
    )


def forest(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    title: str,
    x: str,
    zero: float | None = 0.0,
) -> Markup:
    """Estimates with intervals, one below the other.

    The axis shows the estimates and the ends of their intervals, without those that lie far from
    all others, and zero: an interval beyond it ends in an arrow, an estimate beyond it is not drawn
    and stands in the text.

    Args:
        rows: name, value, low and high of each; those without finite numbers are left out.
        title: of the figure.
        x: name of the axis.
        zero: where a line is drawn to compare with; None: nowhere.
    """
    known = [row for row in rows if all(map(math.isfinite, row[1:]))]
    if not known:
        return Markup("")
    shown = [*main_range([v for row in known for v in row[1:]]), *([] if zero is None else [zero])]
    ends = _ends(shown)
    step, width, edge = 38, 420, 14
    height = step * len(known) + 46
    scale = (width - 2 * edge) / (ends[1] - ends[0])

    def place(value: float) -> float:
        return round(edge + (min(max(value, ends[0]), ends[1]) - ends[0]) * scale, 1)

    bottom = step * len(known) + 6
    parts = []
    for tick in _ticks(*ends):
        at = place(tick)
        parts.append(tag("line", x1=at, y1=2, x2=at, y2=bottom, class_="grid"))
        parts.append(tag("text", f"{tick:g}", x=at, y=bottom + 14, text_anchor="middle"))
    if zero is not None:
        parts.append(tag("line", x1=place(zero), y1=2, x2=place(zero), y2=bottom, class_="zero"))
    for line, (name, value, low, high) in enumerate(known):
        y = step * line + 29
        numbers = f"{value:.4g} [{low:.4g}, {high:.4g}]"
        said = tag("title", f"{name}: {numbers}")
        beyond = [
            tag("path", d=f"M{place(at)} {y - 5} l{side * 9} 5 l{-side * 9} 5 z", class_="f0")
            for at, side, outside in ((low, -1, low < ends[0]), (high, 1, high > ends[1]))
            if outside
        ]
        label = f"{name}: {numbers}" if beyond else name
        parts.append(
            tag(
                "g",
                tag("rect", x=0, y=y - 25, width=width, height=36, class_="hit"),
                # Above its line, so that a narrow screen has room for both.
                tag("text", _short(label, 60), x=edge, y=y - 12, class_="name"),
                tag("line", x1=place(low), y1=y, x2=place(high), y2=y, class_="s0"),
                *[tag("rect", x=place(value) - 4, y=y - 4, width=8, height=8, class_="f0")]
                * (ends[0] <= value <= ends[1]),
                *beyond,
                said,
            )
        )
    parts.append(tag("text", x, x=width / 2, y=height - 8, text_anchor="middle", class_="axis"))
    picture = tag(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=f"{title}: {x}"
    )
    return tag("figure", tag("figcaption", title), picture, class_="wide")


class _Frame:
    """The area of a figure."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x, self.y = x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point, kept within the frame."""
        across = (min(max(x, self.x[0]), self.x[1]) - self.x[0]) / (self.x[1] - self.x[0])
        up = (min(max(y, self.y[0]), self.y[1]) - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    def axes(self, x: str, y: str) -> Markup:
        """Grid, numbers and names."""
        parts = []
        for tick in _ticks(*self.x):
            at, low = self.at(tick, self.y[0])
            parts.append(tag("line", x1=at, y1=TOP, x2=at, y2=low, class_="grid"))
            parts.append(tag("text", f"{tick:g}", x=at, y=low + 15, text_anchor="middle"))
        for tick in _ticks(*self.y):
            left, at = self.at(self.x[0], tick)
            parts.append(tag("line", x1=left, y1=at, x2=WIDTH - RIGHT, y2=at, class_="grid"))
            parts.append(tag("text", f"{tick:g}", x=left - 6, y=at + 4, text_anchor="end"))
        middle = (HEIGHT - BOTTOM + TOP) / 2
        parts.append(
            tag("text", x, x=(LEFT + WIDTH) / 2, y=HEIGHT - 8, text_anchor="middle", class_="axis")
        )
        parts.append(
            tag(
                "text",
                y,
                transform=f"translate(13 {middle}) rotate(-90)",
                text_anchor="middle",
                class_="axis",
            )
        )
        return join(*parts)


def _series(each: Series, index: int, style: str, dash: str, number: int, frame: _Frame) -> Markup:
    points = [
        (x, y) for x, y in zip(each.x, each.y, strict=True) if math.isfinite(x) and math.isfinite(y)
    ]
    parts = []
    bars = each.low is not None and each.high is not None and each.kind != "line"
    if each.low is not None and each.high is not None and not bars:
        up = [frame.at(x, v) for x, v in zip(each.x, each.high, strict=True) if math.isfinite(v)]
        down = [frame.at(x, v) for x, v in zip(each.x, each.low, strict=True) if math.isfinite(v)]
        ring = " ".join(f"{a},{b}" for a, b in [*up, *reversed(down)])
        parts.append(tag("polygon", points=ring, class_=f"band b{number % COLOURS}"))
    if each.kind != "points":
        line = " ".join("{},{}".format(*frame.at(*point)) for point in _thinned(points))
        parts.append(tag("polyline", points=line, class_=f"line {style}", stroke_dasharray=dash))
    if bars:
        for x, low, high in zip(each.x, each.low or (), each.high or (), strict=True):
            (left, top), (_, bottom) = frame.at(x, high), frame.at(x, low)
            parts.append(tag("line", x1=left, y1=top, x2=left, y2=bottom, class_=style))
    if not each.plain:
        marked = list(enumerate(points))
        if each.kind == "line":
            marked = marked[:: max(1, len(marked) // 8)]
        for place, point in marked:
            said = f"{each.name}: {point[0]:.4g}, {point[1]:.4g}"
            if each.labels is not None:
                said = f"{each.name}: {each.labels[place]}"
            at = frame.at(*point)
            parts.append(tag("g", _mark(number, *at, style), tag("title", said), class_="mark"))
    return tag("g", *parts, data_s=index)


def _mark(number: int, x: float, y: float, style: str) -> Markup:
    """A circle, square, triangle or diamond."""
    kind, r = number % 4, 3.6
    fill = style.replace("s", "f")
    if kind == 0:
        return tag("circle", cx=x, cy=y, r=r, class_=fill)
    corners = {
        1: ((-r, -r), (r, -r), (r, r), (-r, r)),
        2: ((0, -r - 1), (r + 1, r), (-r - 1, r)),
        3: ((0, -r - 1), (r + 1, 0), (0, r + 1), (-r - 1, 0)),
    }[kind]
    ring = " ".join(f"{round(x + a, 1)},{round(y + b, 1)}" for a, b in corners)
    return tag("polygon", points=ring, class_=fill)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most so many points, both ends among them."""
    if len(points) <= MOST_POINTS:
        return points
    kept = np.unique(np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int))
    return [points[i] for i in kept]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between two ends.

    Example:
        >>> _ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = min((1, 2, 5, 10), key=lambda each: abs(each * power - rough)) * power
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 10) for i in range(count)]


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
