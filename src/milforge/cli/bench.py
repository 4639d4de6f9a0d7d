"""`milforge-bench`: several models on the same seeds and folds, in one table."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from milforge.cli.bench_plan import RULES, SIMPLEST, Plan, make_plan

DESCRIPTION = """\
Trains several models on the same seeds and folds, as a sweep of milforge-train would, and writes
one table: metric, difference from the baseline, time, memory, parameters, and how many more seeds a
difference would need. The same command with the same sweep=NAME does what is left; with more
--seeds it adds them."""
EXAMPLE = (
    "example: milforge-bench --models abmil,simlp,dsmil --seeds 5 sweep=baselines data=digits_bags"
)
CONTROLS = {"size": "bag size alone", "order": "file order alone", "labels": "shuffled labels"}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("milforge-bench", description=DESCRIPTION, epilog=EXAMPLE)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="of milforge-train, launcher= too")
    add("--models", required=True, metavar="A,B", help="of configs/model; all: every one of bags")
    add("--baseline", metavar="NAME", help="compare with this model; default: the first")
    add("--seeds", type=int, default=5, metavar="N", help="seed=0 to N - 1; default: 5")
    add("--folds", type=int, metavar="N", help="the first N folds; default: all of split=kfold")
    add("--metric", metavar="NAME", help="test/auroc ...; default: the first of the test")
    add("--difference", type=float, metavar="D", help="for which more seeds are counted")
    add("--select", choices=("val",), help="also the model that validation chooses in each fold")
    add(
        "--bags-alone",
        action="store_true",
        help="also what bag size, order of files and shuffled labels reach",
    )
    add(
        "--unit-tests",
        action="store_true",
        help="instead: whether the models use what a MIL model must not, on generated bags",
    )
    add("--config-dir", metavar="FOLDER", help="further configs, as for milforge-train")
    return parser.parse_intermixed_args(arguments)


def bench(options: argparse.Namespace) -> str | None:
    """Runs what is left, prints the table and writes it.

    Returns:
        A sentence on the jobs that did not finish, None where all did.

    Raises:
        ValueError: for what cannot be run, and where no run is finished.
    """
    plan = make_plan(options)
    command, name = (
        (plan.unit_tests(), "unit_tests") if options.unit_tests else (plan.command(), "models")
    )
    try:
        failed = start(command, plan.folder / name)
    except SystemExit:
        if not any(plan.folder.glob("*/[0-9]*")):  # no job began: nothing stays of it
            (plan.folder / "bench.json").unlink()
            with suppress(OSError):
                plan.folder.rmdir()
        raise
    if options.bags_alone:
        for command, name in zip(plan.controls(), ("alone", "shuffled"), strict=True):
            try:
                failed = start(command, plan.folder / name) or failed
            except SystemExit as end:
                if not isinstance(end.code, str):
                    raise
                failed = end.code  # the table of the models comes first
    try:
        if options.unit_tests:
            tell_unit_tests(plan)
        else:
            tell(plan, options)
    except ValueError as error:
        if failed is None:
            raise
        raise ValueError(f"{error}: {failed.removeprefix('error: ')}") from error
    return failed


def start(command: Sequence[str], folder: Path) -> str | None:
    """Runs a sweep by `milforge-train`; returns what it says of jobs that did not finish."""
    from milforge.cli import train

    arguments = sys.argv
    sys.argv = ["milforge-train", *command]
    try:
        train.main()
    except SystemExit as end:
        if isinstance(end.code, str) and any(folder.glob("[0-9]*")):
            return end.code
        if end.code:
            raise
    finally:
        sys.argv = arguments
    return None


def tell(plan: Plan, options: argparse.Namespace) -> None:
    """Prints the table and writes `bench.md` and `bench.csv`.

    Raises:
        ValueError: where no run is finished, or none has the metric.
    """
    from milforge.cli.report import choose_metrics
    from milforge.processes.files import atomic_path
    from milforge.report.bench import (
        bench_cells,
        bench_notes,
        bench_records,
        bench_rows,
        choices,
        main_metric,
        select_on_validation,
    )
    from milforge.report.cells import in_columns, markdown, markdown_table
    from milforge.report.files import write_csv
    from milforge.report.groups import Group, group_runs
    from milforge.report.survey import survey
    from milforge.report.table import explain

    found = survey([plan.folder / "models"])
    if not found.finished:
        raise ValueError(f"no run in {plan.folder} is finished: there is nothing to compare")
    tested = choose_metrics(found.finished, [plan.metric] if plan.metric else None)
    metric = main_metric(found.finished[0], tested)
    grouping = group_runs(found.finished, ["model"])
    groups = sorted(grouping.groups, key=lambda group: plan.models.index(group.values["model"]))
    base = [group for group in groups if group.values["model"] == plan.baseline]
    if not base:
        raise ValueError(f"no run of the baseline {plan.baseline} is finished")
    notes = list(grouping.notes)
    compared = list(groups)
    if options.select:
        chosen = select_on_validation(groups)
        compared.append(chosen)
        shown = ", ".join(f"{name} {count}" for name, count in choices(groups, chosen).items())
        notes.append(f"Validation chose, of {len(chosen.runs)} runs: {shown}.")
    beside = []
    if options.bags_alone:
        folders = [plan.folder / name for name in ("alone", "shuffled")]
        begun = [each for each in folders if any(each.glob("[0-9]*"))]
        controls = survey(begun).finished if begun else []
        for group in group_runs(controls, ["bags_alone"]).groups if controls else ():
            label = CONTROLS[group.values["bags_alone"]]
            beside.append(Group({"model": label}, group.runs))
        notes.append(
            f"Beside the models, and compared with nothing: what {SIMPLEST} reaches that sees one "
            "number per bag, the logarithm of its size or its place among the files, and what "
            f"{plan.baseline} reaches where the labels of all bags are shuffled."
        )
    rows = bench_rows(compared, metric, base[0], beside=beside, difference=options.difference)
    notes += [*explain([row.row for row in rows]), *bench_notes(rows, options.difference)]
    cells = bench_cells(rows, options.difference)
    print(f"\n{in_columns({metric: cells}, 1)}\n")
    print("\n".join(notes))
    parts = ["# Bench", *map(markdown, found.lines()), f"## {markdown(metric)}"]
    parts += [markdown_table(cells, 1), "\n".join(f"- {markdown(note)}" for note in notes)]
    with atomic_path(plan.folder / "bench.md") as path:
        path.write_text("\n\n".join(parts) + "\n", "utf-8")
    write_csv(plan.folder / "bench.csv", bench_records(rows, options.difference))
    shown_folder = os.path.relpath(plan.folder)
    print(f"\ntable        {shown_folder}/bench.md {shown_folder}/bench.csv")
    print(f"more         milforge-report {shown_folder} --baseline model={plan.baseline}")


def tell_unit_tests(plan: Plan) -> None:
    """Prints which models pass, and writes `unit_tests.md` and `unit_tests.csv`.

    Raises:
        ValueError: where no run is finished.
    """
    from milforge.processes.files import atomic_path
    from milforge.report.cells import in_columns, markdown, markdown_table
    from milforge.report.checks.unit_tests import METRIC, NOTES, cells, judge, judged_records
    from milforge.report.files import write_csv
    from milforge.report.groups import group_runs
    from milforge.report.survey import survey

    found = survey([plan.folder / "unit_tests"])
    if not found.finished:
        raise ValueError(f"no run in {plan.folder} is finished: there is nothing to judge")
    judged = judge(group_runs(found.finished, ["model", "data.rule"]).groups, plan.models, RULES)
    lines = cells(judged)
    print(f"\n{in_columns({METRIC: lines}, 2)}\n")
    print("\n".join(NOTES))
    parts = ["# Unit tests", *map(markdown, found.lines()), markdown_table(lines, 2)]
    parts.append("\n".join(f"- {markdown(note)}" for note in NOTES))
    with atomic_path(plan.folder / "unit_tests.md") as path:
        path.write_text("\n\n".join(parts) + "\n", "utf-8")
    write_csv(plan.folder / "unit_tests.csv", judged_records(judged))
    shown = os.path.relpath(plan.folder)
    print(f"\ntable        {shown}/unit_tests.md {shown}/unit_tests.csv")


def main() -> None:
    """Entry point."""
    options = parse(sys.argv[1:])
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from milforge.config.messages import explain

    try:
        failed = bench(options)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error, 'train') or ' '.join(str(error).split())}")
    if failed:
        sys.exit(failed)


if __name__ == "__main__":
    main()
