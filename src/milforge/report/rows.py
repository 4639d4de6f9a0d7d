"""Statistics of groups of runs: a row for each metric and group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from milforge.report.analysis.pooled import CORRECTIONS, Correction
from milforge.report.analysis.ranges import range_of
from milforge.report.groups import Group
from milforge.statistics import pairs_needed
from milforge.statistics.repeated_runs.repetitions import (
    Comparison,
    Interval,
    bootstrap_interval,
    compare_pairs,
)


@dataclass(frozen=True)
class Row:
    """A metric of a group.

    Attributes:
        group: the group.
        metric: its name.
        values: of the runs that have the metric.
        units: number of folds where there are several, else of values.
        std: sample standard deviation over all runs; None of one.
        interval: of the mean, 95%; None of one.
        baseline: the group compared with; None where there is none.
        comparison: with the baseline; None without one, or without a pair.
        adjusted: p of the comparison, corrected for the number of groups compared.
        differences: of the pairs; none without a comparison.
        needed: number of pairs, or of folds where there are several, whose runs are not
            independent, that would tell the difference from noise with 80% power; None where that
            is not known.
    """

    group: Group
    metric: str
    values: list[float]
    units: int
    std: float | None
    interval: Interval | None
    baseline: Group | None = None
    comparison: Comparison | None = None
    adjusted: float | None = None
    differences: Sequence[float] = ()
    needed: int | None = None

    @property
    def mean(self) -> float | None:
        """Mean over all runs."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def is_baseline(self) -> bool:
        """Whether the others are compared with this one."""
        return self.baseline is self.group


def make_row(group: Group, metric: str, baseline: Group | None) -> Row:
    """The statistics of a metric of a group."""
    found = {
        repeat: run.metrics[metric] for repeat, run in group.runs.items() if metric in run.metrics
    }
    values, folds = list(found.values()), [repeat.fold for repeat in found]
    comparison, needed, within = None, None, range_of(metric)
    differences: list[float] = []
    if baseline is not None and baseline is not group:
        others = {
            r: run.metrics[metric] for r, run in baseline.runs.items() if metric in run.metrics
        }
        pairs = [repeat for repeat in found if repeat in others]
        differences = [found[repeat] - others[repeat] for repeat in pairs]
        if pairs:
            comparison = compare_pairs(
                differences, [repeat.fold for repeat in pairs], within=within.of_differences()
            )
            units = _independent(differences, [repeat.fold for repeat in pairs])
            needed = pairs_needed(units) if len(units) > 1 else None
    return Row(
        group,
        metric,
        values,
        units=len(set(folds)) if len(set(folds)) > 1 else len(values),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=bootstrap_interval(values, folds, within=within) if values else None,
        baseline=baseline,
        comparison=comparison,
        differences=differences,
        needed=needed,
    )


def _independent(differences: Sequence[float], folds: Sequence[tuple[str, ...]]) -> list[float]:
    """The mean difference of each fold where there are several, else all."""
    of_fold: dict[tuple[str, ...], list[float]] = {}
    for fold, difference in zip(folds, differences, strict=True):
        of_fold.setdefault(fold, []).append(difference)
    if len(of_fold) == 1:
        return list(differences)
    return [float(np.mean(each)) for each in of_fold.values()]


def make_rows(
    groups: Sequence[Group],
    metrics: Sequence[str],
    compared: Sequence[Group | None],
    correction: Correction = "holm",
) -> list[Row]:
    """A row for each metric and group, metric after metric.

    The p-values of a metric are corrected for the number of groups that are compared.
    """
    rows = []
    for metric in metrics:
        found = [
            make_row(group, metric, baseline)
            for group, baseline in zip(groups, compared, strict=True)
        ]
        p = [row.comparison.p if row.comparison else None for row in found]
        adjusted = CORRECTIONS[correction]([np.nan if each is None else each for each in p])
        rows += [
            row if each is None else replace(row, adjusted=float(corrected))
            for row, each, corrected in zip(found, p, adjusted, strict=True)
        ]
    return rows


def records(rows: Sequence[Row], correction: Correction = "holm") -> list[dict[str, Any]]:
    """Rows for `report.csv`: unrounded numbers, None where there is nothing to say."""
    found = []
    for row in rows:
        low, high = row.interval or (None, None)
        comparison = row.comparison
        diff_low, diff_high = (comparison and comparison.interval) or (None, None)
        found.append(
            {
                "group": row.group.label,
                **row.group.values,
                "metric": row.metric,
                "n": len(row.values),
                "mean": row.mean,
                "std": row.std,
                "ci_low": low,
                "ci_high": high,
                "baseline": row.baseline and row.baseline.label,
                "pairs": comparison and comparison.pairs,
                "diff": comparison and comparison.difference,
                "diff_low": diff_low,
                "diff_high": diff_high,
                "p": comparison and comparison.p,
                f"p_{correction}": row.adjusted,
                "pairs_for_80_power": row.needed,
            }
        )
    return found
