"""Tables of cells, as text for the terminal and as Markdown."""

import html
from collections.abc import Mapping
from itertools import chain

from milforge.statistics import Interval


def in_columns(tables: Mapping[str, list[list[str]]], names: int) -> str:
    """Tables for the terminal, each under its title, in columns of one width throughout.

    Args:
        tables: title to lines of cells, the head first.
        names: how many columns are text, to the left; the others are numbers, to the right.
    """
    widths = [max(map(len, column)) for column in zip(*chain(*tables.values()), strict=True)]
    blocks = []
    for metric, cells in tables.items():
        lines = [metric]
        for line in cells:
            padded = [
                cell.ljust(width) if i < names else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            lines.append(f"  {'  '.join(padded).rstrip()}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def markdown_table(cells: list[list[str]], names: int) -> str:
    """Lines of cells as a table in Markdown, the head first; the first `names` columns are text."""
    head, *body = [[markdown(cell) for cell in line] for line in cells]
    rule = ["---" if i < names else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def markdown(text: str) -> str:
    r"""Text of a config as Markdown that shows it: no HTML, no link, no picture, one line.

    Example:
        >>> print(markdown("<b>a|b</b> [c](d)"))
        &lt;b&gt;a\|b&lt;/b&gt; [c]\(d)
    """
    line = " ".join(text.split())
    return html.escape(line, quote=False).replace("|", r"\|").replace("](", r"]\(")


def number_cell(value: float | None, sign: str = "") -> str:
    """A number with four digits; nothing of None."""
    return "" if value is None else f"{value:{sign}.4f}"


def interval_cell(interval: Interval | None, sign: str = "") -> str:
    """The two ends of an interval; nothing of None."""
    return "" if interval is None else f"[{interval[0]:{sign}.4f}, {interval[1]:{sign}.4f}]"
