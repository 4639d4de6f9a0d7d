"""`milforge-report`: what many runs say together, and how far a sweep is."""

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milforge.report.groups import Group, Grouping
    from milforge.report.runs import Run
    from milforge.report.survey import Survey
    from milforge.report.table import Row

DESCRIPTION = """\
Reads the folders of runs, groups the runs by what differs among their configs but for seed and
fold, and gives mean, standard deviation and 95% interval of each metric in each group. Runs that
are not done are counted and named."""
EXAMPLE = "example: milforge-report logs/train/multiruns/demo --baseline model=abmil"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("milforge-report", description=DESCRIPTION, epilog=EXAMPLE)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="of a run, a sweep, or above them")
    add("--metrics", nargs="+", metavar="NAME", help="test/auroc ...; default: all of the test")
    add("--by", nargs="+", metavar="KEY", help="group by these keys; default: all that differ")
    add(
        "--baseline",
        nargs="+",
        metavar="NAME=VALUE",
        help="the group to compare the others with, in pairs of equal seed and fold",
    )
    add("--out", type=Path, help="folder to write to; default: report in the first FOLDER")
    add(
        "--wandb",
        action="store_true",
        help="log to a W&B run of job type report, offline unless WANDB_MODE=online",
    )
    return parser.parse_args(arguments)


def report(options: argparse.Namespace) -> None:
    """Prints the tables and writes the report's folder.

    Raises:
        ValueError: for a folder without runs, or an unknown metric, key or baseline.
    """
    # Imported here because --help should not wait for SciPy.
    from milforge.report.groups import baselines, group_runs
    from milforge.report.survey import survey
    from milforge.report.table import explain, make_rows, markdown_tables, terminal_tables

    found = survey(options.folders)
    print("\n".join(found.lines()))
    if not found.finished:
        print("no run is finished: there is nothing to report yet")
        return
    metrics = choose_metrics(found.finished, options.metrics)
    grouping = group_runs(found.finished, options.by)
    groups = grouping.groups
    compared: Sequence[Group | None] = [None] * len(groups)
    if options.baseline:
        compared = baselines(grouping, options.baseline)
    rows = make_rows(groups, metrics, compared)
    notes = [*grouping.notes, *explain(rows)]
    print(f"\n{terminal_tables(rows)}\n")
    print("\n".join(notes), flush=True)  # the figure takes some seconds more

    out = options.out or options.folders[0] / "report"
    write(out, found, grouping, rows, notes, markdown_tables(rows))
    print(f"\nreport       {out / 'report.md'}")
    print(f"tables       {out / 'report.csv'} {out / 'runs.csv'}")
    print(f"figure       {out / 'report.png'}")
    if options.wandb:
        print(f"W&B          wandb sync {log_to_wandb(out, rows)}")


def choose_metrics(runs: Sequence["Run"], names: Sequence[str] | None) -> list[str]:
    """The metrics to report: those named, or those of the test, or what the runs were chosen by.

    Raises:
        ValueError: for a metric that no run has, or where no run has any.
    """
    from milforge.config.key_check import did_you_mean

    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    if not known:
        raise ValueError(f"expected runs with metrics, found none in {len(runs)} finished runs")
    for name in names or ():
        if name not in known:
            raise ValueError(
                f"there is no metric {name!r}{did_you_mean(name, known)} "
                f"(there are {', '.join(known)})"
            )
    tested = [name for name in known if name.startswith("test/")]
    monitored = [name for name in known if name in {run.monitor for run in runs}]
    return list(names or tested or monitored or known)


def write(
    out: Path,
    found: "Survey",
    grouping: "Grouping",
    rows: Sequence["Row"],
    notes: Sequence[str],
    tables: str,
) -> None:
    """Writes `report.md`, `report.csv`, `runs.csv` and `report.png`."""
    from milforge.data.files import atomic_path
    from milforge.plots import GroupResult, plot_report
    from milforge.report.table import markdown, records

    notes_as_text = "\n".join(f"- {markdown(note)}" for note in notes)
    parts = ["# Report", *map(markdown, found.lines()), tables, notes_as_text]
    parts.append("![Runs, means and intervals](report.png)")
    with atomic_path(out / "report.md") as path:
        path.write_text("\n\n".join(parts) + "\n")
    _write_csv(out / "report.csv", records(rows))
    _write_csv(out / "runs.csv", list_runs(found, grouping))
    panels: dict[str, list[GroupResult]] = {}
    for row in rows:
        result = GroupResult(row.group.label, row.values, row.interval)
        panels.setdefault(row.metric, []).append(result)
    with atomic_path(out / "report.png") as path:
        plot_report(panels).savefig(path, format="png")


def list_runs(found: "Survey", grouping: "Grouping") -> list[dict[str, Any]]:
    """Rows for `runs.csv`: all runs, those left out too, and all their metrics."""
    from milforge.report.differences import REPETITION

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


def log_to_wandb(out: Path, rows: Sequence["Row"]) -> Path:
    """Logs the table and the figure to a W&B run, and returns its folder."""
    import wandb

    from milforge.report.table import records

    mode = os.environ.get("WANDB_MODE", "offline")
    run = wandb.init(
        project="milforge",
        job_type="report",
        dir=out,
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True),
    )
    try:
        lines = records(rows)
        table = wandb.Table(columns=list(lines[0]), data=[list(line.values()) for line in lines])
        run.log({"report": table, "figure": wandb.Image(str(out / "report.png"))})
        return Path(run.dir).parent
    finally:
        run.finish()


def _write_csv(target: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    from milforge.data.files import atomic_path

    with atomic_path(target) as path, path.open("w", newline="") as file:
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


def main() -> None:
    """Entry point."""
    options = parse(sys.argv[1:])
    try:
        report(options)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
