"""`milforge-report`: what many runs say together, and how far a sweep is."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milforge.cli.common.terminal import show_any_name

if TYPE_CHECKING:
    from milforge.report.runs import Run

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
    add(
        "--correction",
        choices=("holm", "bh"),
        default="holm",
        help="of p for the number of groups compared: Holm (default) or Benjamini-Hochberg",
    )
    add(
        "--external",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="evaluations of an external cohort by these runs (milforge-evaluate)",
    )
    add("--html", type=Path, metavar="FILE", help="write a page, one file that needs no network")
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
    from milforge.report.gather import gather
    from milforge.report.survey import survey
    from milforge.report.table import external_table, pooled_table, terminal_tables

    found = survey(options.folders)
    print("\n".join(found.lines()))
    if not found.finished:
        print("no run is finished: there is nothing to report yet")
        return
    results = gather(
        found,
        choose_metrics(found.finished, options.metrics),
        by=options.by,
        baseline=options.baseline,
        correction=options.correction,
        external=survey(options.external) if options.external else None,
    )
    print(f"\n{terminal_tables(results.rows, options.correction)}\n")
    if results.pooled_rows:
        print(f"{pooled_table(results.pooled_rows, options.correction)}\n")
    if results.external is not None and results.external.rows:
        print(f"{external_table(results.external.rows)}\n")
    print("\n".join(results.notes), flush=True)  # the figure takes some seconds more

    from milforge.report.files import log_to_wandb, write_page, write_report  # it waits for torch

    out = options.out or options.folders[0] / "report"
    write_report(out, results)
    print(f"\nreport       {out / 'report.md'}")
    tables = ["report.csv", "runs.csv", *(["pooled.csv"] if results.pooled_rows else [])]
    print(f"tables       {' '.join(str(out / name) for name in tables)}")
    if results.pooled:
        print(f"predictions  {out / 'out_of_fold.parquet'}")
    print(f"figure       {out / 'report.png'} (and .pdf, .svg)")
    if options.html:
        write_page(options.html, results)
        print(f"page         {options.html}")
    if options.wandb:
        print(f"W&B          wandb sync {log_to_wandb(out, results)}")


def choose_metrics(runs: Sequence["Run"], names: Sequence[str] | None) -> list[str]:
    """The metrics to report: those named, or those of the test, or what the runs were chosen by.

    Raises:
        ValueError: for a metric that no run has, or where no run has any.
    """
    from milforge.config.keys.key_check import did_you_mean
    from milforge.report.survey import FAITHFULNESS

    known = list(
        dict.fromkeys(
            name for run in runs for name in run.metrics if not name.startswith(FAITHFULNESS)
        )
    )
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


def main() -> None:
    """Entry point."""
    show_any_name()
    options = parse(sys.argv[1:])
    try:
        report(options)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
