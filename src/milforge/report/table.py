"""Statistics of groups of runs, as text, Markdown and rows of CSV."""

from collections.abc import Mapping, Sequence

from milforge.report.analysis.external import ExternalRow
from milforge.report.analysis.pooled import NAMES, Correction, PooledRow, main_rows
from milforge.report.cells import (
    in_columns,
    interval_cell,
    markdown,
    markdown_table,
    number_cell,
)
from milforge.report.rows import Row
from milforge.statistics.repeated_runs.repetitions import Interval

FEW = 10  # below this number of values the report warns that a bootstrap is not to be trusted


def terminal_tables(rows: Sequence[Row], correction: Correction = "holm") -> str:
    """One table a metric, in columns of one width throughout."""
    tables = {metric: _cells(part, correction) for metric, part in _by_metric(rows).items()}
    return in_columns(tables, len(rows[0].group.values))


def pooled_table(rows: Sequence[PooledRow], correction: Correction = "holm") -> str:
    """The main metric of the pooled predictions, as a table for the terminal for each target."""
    return in_columns(_pooled_cells(rows, correction), len(rows[0].group.values))


def pooled_markdown(rows: Sequence[PooledRow], correction: Correction = "holm") -> str:
    """The same in Markdown."""
    return _in_markdown(_pooled_cells(rows, correction), len(rows[0].group.values))


def external_table(rows: Sequence[ExternalRow]) -> str:
    """The main metric on both cohorts, as a table for the terminal for each target."""
    return in_columns(_external_cells(rows), 1)


def external_markdown(rows: Sequence[ExternalRow]) -> str:
    """The same in Markdown."""
    return _in_markdown(_external_cells(rows), 1)


def markdown_tables(rows: Sequence[Row], correction: Correction = "holm") -> str:
    """One table a metric, under a heading each."""
    tables = {metric: _cells(part, correction) for metric, part in _by_metric(rows).items()}
    return _in_markdown(tables, len(rows[0].group.values))


def explain(rows: Sequence[Row], correction: Correction = "holm") -> list[str]:
    """What a reader has to know to trust the numbers no more than they deserve."""
    nested = any(row.units < len(row.values) for row in rows)
    folded = any(len({repeat.fold for repeat in row.group.runs}) > 1 for row in rows)
    intervals = "Intervals: 95%, bootstrap of the mean"
    notes = [
        f"{intervals} over folds, then over the runs of a fold." if nested else f"{intervals}."
    ]
    sizes = {row.units for row in rows if row.values}
    if any(2 < size < FEW for size in sizes):
        notes.append(
            "Of few values a bootstrap interval is too narrow: of 3, 5 and 10 normal values it "
            "holds the mean in 72, 85 and 90% of cases."
        )
    if 2 in sizes:
        notes.append(
            "Of two values (or folds) the interval is Student's t, cut off at the metric's range."
        )
    if 1 in sizes:
        notes.append("Of one value (or fold) there is no interval.")
    compared = [row.comparison for row in rows if row.comparison]
    if compared:
        each = _counted(len(compared) // len(_by_metric(rows)))
        notes.append(
            "Differences: to the baseline in runs of the same seed and fold; p by sign-flip "
            f"permutation, then corrected for {each} of a metric ({NAMES[correction]})."
        )
        flips = min(comparison.units for comparison in compared)
        if 2 <= flips <= 5:
            notes.append(f"Of {flips} pairs (or folds), p is at least {2 / 2**flips:g}.")
    if folded:
        notes.append(
            "Folds of a cross-validation share training bags: intervals and p are optimistic "
            "(Nadeau and Bengio 2003)."
        )
    return notes


def _in_markdown(tables: Mapping[str, list[list[str]]], names: int) -> str:
    blocks = (
        f"## {markdown(title)}\n\n{markdown_table(cells, names)}" for title, cells in tables.items()
    )
    return "\n\n".join(blocks)


def _by_metric(rows: Sequence[Row]) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row.metric, []).append(row)
    return parts


def _cells(rows: Sequence[Row], correction: Correction) -> list[list[str]]:
    """The head of the table of a metric, and its lines."""
    head = [*rows[0].group.values, "n", "mean", "sd", "95% interval"]
    compares = any(row.baseline for row in rows)
    if compares:
        head += ["difference", "95% interval", "pairs", "p", f"p {NAMES[correction]}"]
    lines = [head]
    for row in rows:
        runs = len(row.group.runs)
        n = str(runs) if len(row.values) == runs else f"{len(row.values)} of {runs}"
        line = [*row.group.values.values(), n]
        line += [number_cell(row.mean), number_cell(row.std), interval_cell(row.interval)]
        if compares:
            line += _comparison_cells(row)
        lines.append(line)
    return lines


def _comparison_cells(row: Row) -> list[str]:
    if row.comparison is None:
        return ["baseline" if row.is_baseline else "no pairs", "", "", "", ""]
    p = row.comparison.p
    return [
        number_cell(row.comparison.difference, "+"),
        interval_cell(row.comparison.interval, "+"),
        str(row.comparison.pairs),
        "" if p is None else f"{p:.3g}",
        "" if row.adjusted is None else f"{row.adjusted:.3g}",
    ]


def _pooled_cells(rows: Sequence[PooledRow], correction: Correction) -> dict[str, list[list[str]]]:
    """Title to head and lines, of the main metric of each target."""
    compares = any(row.difference for shown in main_rows(rows).values() for row in shown)
    head = [*rows[0].group.values, "bags", "patients", "pooled", "95% interval"]
    head += ["single models", "mean of runs"]
    if compares:
        head += ["difference", "95% interval", "p", f"p {NAMES[correction]}"]
    tables = {}
    for target, shown in main_rows(rows).items():
        lines = [head]
        for row in shown:
            line = [*row.group.values.values(), str(row.bags), str(row.patients)]
            line += [number_cell(row.estimate.value), interval_cell(Interval(*row.estimate[1:]))]
            line += [number_cell(row.single), number_cell(row.runs_mean)]
            if compares:
                found = row.difference
                line += ["", ""] if found is None else [
                    number_cell(found.value, "+"), interval_cell(Interval(*found[1:]), "+")
                ]  # fmt: skip
                line += ["" if p is None else f"{p:.3g}" for p in (row.p, row.adjusted)]
            lines.append(line)
        of = f" of {target}" if target else ""
        title = f"{shown[0].measure}{of} of the pooled test predictions, interval over patients"
        tables[title] = lines
    return tables


def _external_cells(rows: Sequence[ExternalRow]) -> dict[str, list[list[str]]]:
    head = ["group", "models", "bags", "patients", "internal", "95% interval"]
    tables = {}
    for target, shown in main_rows(rows).items():
        lines = [[*head, "external", "95% interval", "difference", "95% interval"]]
        for row in shown:
            line = [row.group, str(row.models), str(row.bags), str(row.patients)]
            for found, sign in ((row.internal, ""), (row.external, ""), (row.difference, "+")):
                line += [number_cell(found.value, sign), interval_cell(Interval(*found[1:]), sign)]
            lines.append(line)
        of = f" of {target}" if target else ""
        tables[f"{shown[0].measure}{of} of the internal and of the external cohort"] = lines
    return tables


def _counted(comparisons: int) -> str:
    return "1 comparison" if comparisons == 1 else f"{comparisons} comparisons"
