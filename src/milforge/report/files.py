"""The files of a report: Markdown, CSV, Parquet, figures."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from milforge.processes.files import atomic_path
from milforge.processes.wandb_mode import wandb_mode
from milforge.report.analysis.external import external_records
from milforge.report.analysis.operating_points import point_records
from milforge.report.analysis.out_of_fold_table import out_of_fold_table
from milforge.report.analysis.pooled import pooled_records
from milforge.report.cells import markdown
from milforge.report.differences import REPETITION
from milforge.report.gather import Results
from milforge.report.groups import Grouping
from milforge.report.rows import Row, records
from milforge.report.survey import Survey
from milforge.report.table import external_markdown, markdown_tables, pooled_markdown


def write_report(out: Path, results: Results) -> None:
    """Writes all but the page.

    `report.md`, `report.csv`, `runs.csv`, and the figure as `report.png`, `.pdf` and `.svg`; where
    runs have predictions `pooled.csv`, `out_of_fold.parquet` (a row per bag, averaged over the
    models that did not see it) and `out_of_fold_single.parquet` (a row per bag and such model); of
    two classes `operating_points.csv`; of an external cohort `external.csv`.
    """
    rows, external = results.rows, results.external
    parts = ["# Report", *map(markdown, results.found.lines())]
    parts.append(markdown_tables(rows, results.correction))
    if results.pooled_rows:
        parts.append(pooled_markdown(results.pooled_rows, results.correction))
    if external is not None and external.rows:
        parts.append(external_markdown(external.rows))
    parts.append("\n".join(f"- {markdown(note)}" for note in results.notes))
    parts.append("![Runs, means and intervals](report.png)")
    with atomic_path(out / "report.md") as path:
        path.write_text("\n\n".join(parts) + "\n", "utf-8")
    write_csv(out / "report.csv", records(rows, results.correction))
    write_csv(out / "runs.csv", list_runs(results.found, results.grouping))
    if results.pooled_rows:
        write_csv(out / "pooled.csv", pooled_records(results.pooled_rows, results.correction))
    if results.points:
        write_csv(out / "operating_points.csv", point_records(results.points))
    if external is not None and external.rows:
        write_csv(out / "external.csv", external_records(external.rows))
    if results.pooled:
        import pyarrow.parquet as pq

        for name, single in (("out_of_fold", False), ("out_of_fold_single", True)):
            with atomic_path(out / f"{name}.parquet") as path:
                pq.write_table(out_of_fold_table(results.pooled, single=single), path)
    _write_figures(out, rows)


def write_page(page: Path, results: Results) -> None:
    """Writes the page."""
    from milforge.report.page.build import build_page

    text = build_page(results, page)
    with atomic_path(page) as path:
        path.write_text(text, "utf-8")


def _write_figures(out: Path, rows: Sequence[Row]) -> None:
    from milforge.plots import GroupResult, plot_report  # it waits for matplotlib

    panels: dict[str, list[GroupResult]] = {}
    differences: dict[str, list[GroupResult]] = {}
    for row in rows:
        name, compared = row.group.label, row.comparison
        panels.setdefault(row.metric, []).append(GroupResult(name, row.values, row.interval))
        note = "baseline" if row.is_baseline else "no pairs"
        interval = None if compared is None else compared.interval
        result = GroupResult(name, row.differences, interval, note)
        differences.setdefault(row.metric, []).append(result)
    compares = {row.metric for row in rows if row.comparison is not None}
    figure = plot_report(
        panels, {metric: each for metric, each in differences.items() if metric in compares}
    )
    figure.draw_without_rendering()  # it is laid out once, not for each file
    figure.set_layout_engine("none")
    for kind in ("png", "pdf", "svg"):
        with atomic_path(out / f"report.{kind}") as path:
            figure.savefig(path, format=kind)


def list_runs(found: Survey, grouping: Grouping) -> list[dict[str, Any]]:
    """Rows for `runs.csv`: all runs, those left out too, and all their metrics."""
    group_of = {run.folder: group for group in grouping.groups for run in group.runs.values()}
    again = dict.fromkeys(key for run in found.runs for key in run.config if REPETITION.search(key))
    metrics = dict.fromkeys(name for run in found.runs for name in run.metrics)
    rows = []
    for run in found.runs:
        group = group_of.get(run.folder)
        rows.append(
            {
                "folder": str(run.folder),
                "state": run.state,
                "group": group.label if group else None,
                **{name: group.values[name] if group else None for name in grouping.keys},
                **{key: run.config.get(key) for key in again},
                "fingerprint": run.fingerprint,
                **{name: run.metrics.get(name) for name in metrics},
            }
        )
    return rows


def log_to_wandb(out: Path, results: Results) -> Path:
    """Logs the table and the figure to a W&B run, and returns its folder."""
    import wandb

    mode = wandb_mode() or "offline"
    run = wandb.init(
        project="milforge",
        job_type="report",
        dir=out,
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True),
    )
    try:
        lines = records(results.rows, results.correction)
        table = wandb.Table(columns=list(lines[0]), data=[list(line.values()) for line in lines])
        run.log({"report": table, "figure": wandb.Image(str(out / "report.png"))})
        return Path(run.dir).parent
    finally:
        run.finish()


def write_csv(target: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of the same keys as a table."""
    with atomic_path(target) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(_cell, rows[0]))
        writer.writerows(map(_cell, row.values()) for row in rows)


def _cell(value: Any) -> Any:
    """A value of a table; text that a spreadsheet would run as a formula begins with a quote."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return value if value == "-" else f"'{value}"
    return value
