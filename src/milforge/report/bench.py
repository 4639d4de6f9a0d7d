"""Several models in one table: how good, how much better than a baseline, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from milforge.report.cells import interval_cell, number_cell
from milforge.report.groups import Group, Repeat
from milforge.report.rows import Row, make_rows, records
from milforge.report.runs import Run
from milforge.statistics import pairs_to_find

MEGABYTE = 1e6


@dataclass(frozen=True)
class Costs:
    """What a run of a group costs.

    Attributes:
        seconds: median of the runs that did not go on from a checkpoint; None where all did.
        memory: median peak in bytes; None where it is not known.
        memory_of: `GPU` or `process`; None where it is not known, or is the one and the other.
        parameters: of the network; None where it is not known.
    """

    seconds: float | None
    memory: float | None
    memory_of: str | None
    parameters: int | None


@dataclass(frozen=True)
class BenchRow:
    """A model in the table.

    Attributes:
        row: its metric, and the difference to the baseline.
        more_seeds: see `more_seeds`.
        costs: of its runs.
    """

    row: Row
    more_seeds: int | None
    costs: Costs


def bench_rows(
    groups: Sequence[Group],
    metric: str,
    baseline: Group,
    *,
    beside: Sequence[Group] = (),
    difference: float | None = None,
) -> list[BenchRow]:
    """The rows of the table.

    Args:
        groups: the models; the p-values of all but the baseline are corrected together (Holm).
        metric: its name.
        baseline: one of the groups.
        beside: groups that are shown below and compared with nothing.
        difference: to be found by more seeds; None: that which was seen.
    """
    compared: list[Group | None] = [*([baseline] * len(groups)), *([None] * len(beside))]
    rows = make_rows([*groups, *beside], [metric], compared)
    return [
        BenchRow(row, more_seeds(row, difference), costs(list(row.group.runs.values())))
        for row in rows
    ]


def more_seeds(row: Row, difference: float | None = None) -> int | None:
    """How many more seeds would find a difference to the baseline, with 80% power at level 0.05.

    Of each seed the differences are averaged over its folds; these means are the pairs of the
    t-test (`pairs_to_find`), so the answer is one for these folds, and of few seeds a rough guess.

    Args:
        row: of a group that is compared.
        difference: to be found; None: that which was seen.

    Returns:
        The number of seeds beyond those there are, 0 or more; None below two seeds, and where no
        number of seeds would do.
    """
    if row.baseline is None or row.is_baseline:
        return None
    of_seed: dict[tuple[str, ...], list[float]] = {}
    for repeat, run in row.group.runs.items():
        other = row.baseline.runs.get(repeat)
        if other is not None and row.metric in run.metrics and row.metric in other.metrics:
            gained = run.metrics[row.metric] - other.metrics[row.metric]
            of_seed.setdefault(repeat.rest, []).append(gained)
    means = [float(np.mean(each)) for each in of_seed.values()]
    if len(means) < 2:
        return None
    wanted = float(np.mean(means)) if difference is None else difference
    needed = pairs_to_find(wanted, float(np.std(means, ddof=1)))
    return None if needed is None else max(0, needed - len(means))


def costs(runs: Sequence[Run]) -> Costs:
    """What a run costs, as the summaries of several tell."""
    told = [run.summary for run in runs]
    seconds = [each["wall_seconds"] for each in told if not each.get("went_on")]
    peaks = [each["peak_memory"] for each in told if each.get("peak_memory")]
    kinds = {each["of"] for each in peaks}
    sizes = [each["parameters"] for each in told if each.get("parameters") is not None]
    one = kinds.pop() if len(kinds) == 1 else None
    return Costs(
        median(seconds) if seconds else None,
        median(each["bytes"] for each in peaks) if one else None,
        one,
        max(sizes) if sizes else None,
    )


def main_metric(run: Run, names: Sequence[str]) -> str:
    """The metric that a table shows where none is named: the task's first, of the names there are.

    Args:
        run: a run of the task.
        names: of metrics, at least one.
    """
    first = (run.summary.get("task") or {}).get("metric")
    bare = [name.partition("/")[2] for name in names]
    fitting = [
        name
        for name, each in zip(names, bare, strict=True)
        if first and (each == first or each.startswith(f"{first}_"))
    ]
    others = [name for name, each in zip(names, bare, strict=True) if each != "loss"]
    return [*fitting, *others, *names][0]


def select_on_validation(groups: Sequence[Group]) -> Group:
    """The runs of that model which validation chooses, anew for each fold.

    It goes by the metric that chose the epoch, averaged over the seeds that saw the same bags;
    where each seed draws bags of its own, each seed chooses.

    Args:
        groups: the models, of runs that were chosen by one metric of validation.

    Raises:
        ValueError: where runs went by several metrics, or by none of validation.
    """
    monitors = {
        (run.monitor, run.summary.get("monitor_mode"))
        for group in groups
        for run in group.runs.values()
    }
    (monitor, mode), *others = sorted(monitors, key=str)
    if others or not (monitor or "").startswith("val/") or mode not in ("min", "max"):
        shown = ", ".join(sorted(str(name) for name, _ in monitors))
        raise ValueError(
            f"--select val: expected runs that went by one metric of validation, got {shown}: give "
            "monitor=val/loss"
        )
    shared = set.intersection(*(set(group.runs) for group in groups))
    bags: dict[object, list[Repeat]] = {}
    for repeat in sorted(shared):
        bags.setdefault((repeat.fold, groups[0].runs[repeat].fingerprint), []).append(repeat)
    sign = 1 if mode == "max" else -1
    chosen: dict[Repeat, Run] = {}
    for repeats in bags.values():
        scores = [
            np.mean(
                [sign * group.runs[repeat].metrics.get(str(monitor), np.nan) for repeat in repeats]
            )
            for group in groups
        ]
        if not np.isfinite(scores).any():
            continue
        best = groups[int(np.nanargmax(scores))]
        chosen |= {repeat: best.runs[repeat] for repeat in repeats}
    return Group({**dict.fromkeys(groups[0].values, ""), "model": f"chosen by {monitor}"}, chosen)


def choices(groups: Sequence[Group], chosen: Group) -> dict[str, int]:
    """How many of the chosen runs are of each model."""
    counts = {
        group.values["model"]: sum(chosen.runs.get(key) is run for key, run in group.runs.items())
        for group in groups
    }
    return {name: count for name, count in counts.items() if count}


def bench_cells(rows: Sequence[BenchRow], difference: float | None) -> list[list[str]]:
    """The head of the table, and its lines."""
    wanted = "it" if difference is None else f"{difference:g}"
    lines = [
        [
            *("model", "n", "mean", "95% interval", "difference", "95% interval", "p Holm"),
            *(f"more seeds for {wanted}", "seconds", "peak MB", "parameters"),
        ]
    ]
    for each in rows:
        row, spent = each.row, each.costs
        runs = len(row.group.runs)
        n = str(runs) if len(row.values) == runs else f"{len(row.values)} of {runs}"
        cells = [row.group.values["model"], n, number_cell(row.mean), interval_cell(row.interval)]
        if row.comparison is None:
            none = "" if row.baseline is None else "no pairs"
            cells += ["baseline" if row.is_baseline else none, "", "", ""]
        else:
            cells += [
                number_cell(row.comparison.difference, "+"),
                interval_cell(row.comparison.interval, "+"),
                "" if row.adjusted is None else f"{row.adjusted:.3g}",
                "" if each.more_seeds is None else str(each.more_seeds),
            ]
        cells += [
            "" if spent.seconds is None else f"{spent.seconds:.1f}",
            "" if spent.memory is None else f"{spent.memory / MEGABYTE:.0f}",
            "" if spent.parameters is None else f"{spent.parameters:,}",
        ]
        lines.append(cells)
    return lines


def bench_records(rows: Sequence[BenchRow], difference: float | None) -> list[dict[str, Any]]:
    """Rows for `bench.csv`: unrounded numbers, None where there is nothing to say."""
    return [
        {
            **numbers,
            "more_seeds_for": difference,
            "more_seeds": each.more_seeds,
            "seconds": each.costs.seconds,
            "peak_bytes": each.costs.memory,
            "peak_of": each.costs.memory_of,
            "parameters": each.costs.parameters,
        }
        for numbers, each in zip(records([row.row for row in rows]), rows, strict=True)
    ]


def bench_notes(rows: Sequence[BenchRow], difference: float | None) -> list[str]:
    """What a reader has to know of the columns that a report has not."""
    wanted = "the difference that was seen" if difference is None else f"{difference:g}"
    notes = [
        f"More seeds: beyond those there are, until a paired t-test finds {wanted} with 80% power "
        "at level 0.05, uncorrected, on these folds; of few seeds a rough guess.",
        "Seconds: the median run, its data and its test included; runs that went on from a "
        "checkpoint are left out.",
    ]
    kinds = {each.costs.memory_of for each in rows} - {None}
    if "process" in kinds:
        notes.append(
            "Peak MB: the median over runs of the resident memory of the process, libraries "
            "included (PyTorch alone takes several hundred)."
        )
    if "GPU" in kinds:
        notes.append("Peak MB: the median over runs of what tensors took on the GPU.")
    return notes
