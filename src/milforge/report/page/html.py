"""Sections, numbers and tables of a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from milforge.markup import Markup, tag


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        body: what it shows; None where there is nothing to show.
        reason: why there is nothing.
    """

    key: str
    title: str
    body: Markup | None
    reason: str = ""


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A number for reading; empty where there is none.

    Example:
        >>> number(0.12345), number(None), number(float("nan")), number(0.5, sign="+")
        ('0.123', '', '', '+0.500')
    """
    return "" if value is None or not math.isfinite(value) else f"{value:{sign}.{digits}f}"


def p_value(value: float | None) -> str:
    """A p-value for reading.

    Example:
        >>> p_value(0.0321), p_value(0.00002), p_value(None)
        ('0.032', '<0.001', '')
    """
    if value is None or not math.isfinite(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def interval(found: Sequence[float] | None, digits: int = 3, sign: str = "") -> str:
    """`[low, high]` of an estimate or interval; empty where there is none."""
    if found is None:
        return ""
    low, high = found[-2:]
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def table(head: Sequence[object], rows: Sequence[Sequence[Any]], caption: str) -> Markup:
    """A table that can be sorted by each column and copied as CSV and LaTeX.

    Args:
        head: names of the columns.
        rows: cells; a pair `(shown, value)` is sorted by its value.
        caption: what it shows.
    """

    def cell(content: Any) -> Markup:
        shown, value = content if isinstance(content, tuple) else (content, None)
        if isinstance(shown, float):
            shown, value = number(shown), shown if value is None else value
        if isinstance(shown, int) and not isinstance(shown, bool):
            shown, value = str(shown), shown
        if value is None:
            plain_text = "" if shown is None else str(shown)
            kind = "n" if plain_text.startswith("[") else "long" if len(plain_text) > 24 else None
            return tag("td", "" if shown is None else shown, class_=kind)
        plain = "" if isinstance(value, float) and not math.isfinite(value) else value
        return tag("td", shown, class_="n", data_v=plain)

    heads = [tag("th", tag("button", each, type="button"), scope="col") for each in head]
    body = [tag("tr", *map(cell, row)) for row in rows]
    copies = tag(
        "span",
        tag("button", "copy CSV", type="button", data_copy="csv"),
        tag("button", "copy LaTeX", type="button", data_copy="latex"),
        class_="tools",
    )
    return tag(
        "div",
        tag("div", tag("b", caption), copies, class_="caption"),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body)),
            class_="scroll",
            tabindex="0",
        ),
        class_="table",
    )
