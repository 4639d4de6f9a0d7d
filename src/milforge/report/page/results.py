"""What was run, and the tables and forest plots of its metrics."""

from statistics import fmean
from typing import Any

from milforge.markup import bullets, join, paragraph, tag
from milforge.report.analysis.faithfulness import faithfulness_rows
from milforge.report.analysis.pooled import NAMES, PooledRow, main_rows
from milforge.report.gather import Results
from milforge.report.page.charts import forest
from milforge.report.page.html import Section, interval, number, p_value, table
from milforge.report.rows import Row, make_row


def overview(results: Results) -> Section:
    """How many runs there are of what, and what a reader should know."""
    rows = []
    for group in results.grouping.groups:
        runs = list(group.runs.values())
        bags = _bags(runs[0].summary)
        seeds = {run.config.get("seed") for run in runs}
        folds = {run.config.get("split.fold") for run in runs} - {None}
        epochs = [run.summary.get("best_epoch") for run in runs]
        known = sorted(epoch for epoch in epochs if isinstance(epoch, int))
        minutes = [run.summary.get("wall_seconds") for run in runs]
        spent = sum(each for each in minutes if isinstance(each, int | float)) / 60
        rows.append(
            [
                group.label,
                len(runs),
                len(folds) or "",
                len(seeds),
                *(bags.get(part, "") for part in ("train", "val", "test")),
                f"{known[0]} to {known[-1]}" if known else "",
                (f"{spent:.1f}", spent),
            ]
        )
    head = ["group", "runs", "folds", "seeds", "train", "val", "test", "best epochs", "minutes"]
    caption = "Groups of runs (bags of the parts: those of the first run)"
    body = join(bullets(results.found.lines()), table(head, rows, caption), bullets(results.notes))
    return Section("overview", "What was run", body)


def metrics(results: Results) -> Section:
    """Means of runs, pooled metrics, corrected comparisons and power."""
    correction = NAMES[results.correction]
    compares = any(row.baseline for row in results.rows)
    head = ["metric", "group", "n", "mean", "sd", "95% interval"]
    if compares:
        head += [
            "difference",
            "95% interval",
            "pairs",
            "p",
            f"p {correction}",
            "pairs (or folds) for 80% power",
        ]
    first = table(
        head,
        [_of_runs(row, compares) for row in results.rows],
        "Means over runs (each run on its own test part)",
    )
    parts = [first]
    if results.pooled_rows:
        head = ["metric", "group", "bags", "patients", "pooled", "95% interval", "single models"]
        head += ["mean of runs"]
        differs = any(row.difference for row in results.pooled_rows)
        if differs:
            head += ["difference", "95% interval", "p", f"p {correction}", "test"]
        head += ["interval by"]
        lines = [_of_pooled(row, differs) for row in results.pooled_rows]
        parts.append(table(head, lines, "Pooled test predictions (intervals over patients)"))
    if not compares:
        parts.append(
            paragraph(
                "No group was named as the baseline (--baseline NAME=VALUE), so nothing is "
                "compared: the best of several groups on the same data is no baseline."
            )
        )
    return Section("results", "Results", join(*parts))


def differences(results: Results) -> Section:
    """Forest plots of the differences from the baseline, or of the pooled metric itself."""
    title = "Differences from the baseline"
    plots = []
    main = main_rows(results.pooled_rows)
    for target, shown in main.items():
        compared = [(row.group.label, *row.difference) for row in shown if row.difference]
        if compared:
            name = f"{shown[0].measure}{target and f' of {target}'}"
            plots.append(
                forest(compared, title=f"Pooled {name}, over patients", x=f"difference in {name}")
            )
    for metric in dict.fromkeys(row.metric for row in results.rows):
        found = [
            (row.group.label, row.comparison.difference, *row.comparison.interval)
            for row in results.rows
            if row.metric == metric and row.comparison and row.comparison.interval
        ]
        if found:
            plots.append(forest(found, title=f"{metric}, over runs", x=f"difference in {metric}"))
    if not any(plots):
        for target, shown in main.items():
            own = [(row.group.label, *row.estimate) for row in shown]
            name = f"{shown[0].measure}{target and f' of {target}'}"
            plots.append(forest(own, title=f"Pooled {name}, no baseline named", x=name, zero=None))
    if not any(plots):
        reason = "no baseline is named, and no run has pooled predictions"
        return Section("differences", title, None, reason)
    return Section("differences", title, tag("div", *plots, class_="figures"))


def localisation(results: Results) -> Section:
    """Metrics of instances, and of how faithful maps are, where there are any."""
    title = "Localisation and faithfulness"
    names = dict.fromkeys(
        name
        for run in results.found.measured
        for name in run.metrics
        if name.startswith("test/") and any(word in name for word in ("inst_", "localisation"))
    )
    rows = [make_row(group, name, None) for name in names for group in results.grouping.groups]
    maps = faithfulness_rows(results.found.finished, results.grouping.groups)
    parts = []
    if rows:
        head = ["metric", "group", "n", "mean", "sd", "95% interval"]
        lines = [_of_runs(row, False) for row in rows]
        parts.append(table(head, lines, "Localisation: metrics of instances of the test parts"))
    if maps:
        head = ["metric", "group", "runs of maps", "mean", "95% interval"]
        lines = [
            [row.metric, row.group, len(row.values), _cell(fmean(row.values)),
             interval(row.interval)]
            for row in maps
        ]  # fmt: skip
        parts.append(table(head, lines, "Faithfulness of the maps"))
        parts.append(paragraph("Measured by milforge-map on the bags that it mapped."))
    reason = "no run has metrics of instances, and no milforge-map measured how faithful maps are"
    return Section("localisation", title, join(*parts) if parts else None, reason)


def _of_runs(row: Row, compares: bool) -> list[Any]:
    line = [row.metric, row.group.label, len(row.values), _cell(row.mean), _cell(row.std)]
    line.append(interval(row.interval))
    if compares:
        found = row.comparison
        if found is None:
            line += ["baseline" if row.is_baseline else "", "", "", "", "", ""]
        else:
            line += [
                (number(found.difference, sign="+"), found.difference),
                interval(found.interval, sign="+"),
                found.pairs,
                _p(found.p),
                _p(row.adjusted),
                "" if row.needed is None else row.needed,
            ]
    return line


def _of_pooled(row: PooledRow, compares: bool) -> list[Any]:
    line: list[Any] = [row.measure, row.group.label, row.bags, row.patients]
    line += [_cell(row.estimate.value), interval(row.estimate), _cell(row.single)]
    line.append(_cell(row.runs_mean))
    if compares:
        found = row.difference
        line += [
            "" if found is None else (number(found.value, sign="+"), found.value),
            interval(found, sign="+"),
            _p(row.p),
            _p(row.adjusted),
            row.test,
        ]
    return [*line, row.method]


def _cell(value: float | None) -> Any:
    return "" if value is None else (number(value), value)


def _p(value: float | None) -> Any:
    return "" if value is None else (p_value(value), value)


def _bags(summary: dict[str, Any]) -> dict[str, Any]:
    data = summary.get("data")
    bags = data.get("bags") if isinstance(data, dict) else None
    found = bags if isinstance(bags, dict) else {}
    return {name: each for name, each in found.items() if isinstance(each, int)}
