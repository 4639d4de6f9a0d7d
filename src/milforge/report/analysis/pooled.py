"""Metrics of pooled predictions with intervals over patients, and comparisons of groups."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from milforge.report.analysis.measures import Measure, measures, values_of
from milforge.report.analysis.out_of_fold import OutOfFold, by_target
from milforge.report.groups import Group
from milforge.report.predictions import Predictions
from milforge.statistics import (
    Estimate,
    auroc_interval,
    benjamini_hochberg,
    cluster_bootstrap,
    clustered_proportion,
    compare_auroc,
    holm,
    paired_permutation,
)

Correction = Literal["holm", "bh"]
CORRECTIONS = {"holm": holm, "bh": benjamini_hochberg}
NAMES = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
RESAMPLES = 1000
DRAWS = 999
FEWEST = 10  # patients below which a reader is warned


@dataclass(frozen=True)
class PooledRow:
    """A metric of the pooled predictions of a group.

    Attributes:
        group: the group, with the target where there are several.
        target: the target; empty where the task has no several.
        measure: the metric.
        bags: number of labelled bags.
        patients: number of patients.
        estimate: of the predictions averaged over models, with its interval over patients.
        method: of the interval.
        single: mean over seeds of the metric of pooled predictions of single models.
        runs_mean: the mean of the metric over runs, fold by fold; None where runs do not have it.
        difference: to the baseline on common bags, with its interval; None without one.
        p: of the difference.
        test: by which p was found.
        adjusted: p corrected for the number of groups that are compared.
    """

    group: Group
    target: str
    measure: str
    bags: int
    patients: int
    estimate: Estimate
    method: str
    single: float
    runs_mean: float | None
    difference: Estimate | None = None
    p: float | None = None
    test: str = ""
    adjusted: float | None = None


def estimate(predictions: Predictions, measure: Measure) -> tuple[Estimate, str]:
    """A metric with its 95% interval over patients, and the method of the interval."""
    y, values, clusters = predictions.y, values_of(predictions, measure), predictions.clusters
    value = measure.of(y, values)
    if not np.isfinite(value):
        return Estimate(value, np.nan, np.nan), "none: the metric has no value of these bags"
    if measure.name == "auroc" and values.ndim == 1:
        return auroc_interval(y, values, clusters), "Newcombe 2006, DeLong's design effect"
    if measure.hits is not None:
        return clustered_proportion(measure.hits(y, values), clusters), "Wilson, by patient"
    if len(set(clusters)) < 2:
        return Estimate(value, np.nan, np.nan), "none: one patient"
    found = cluster_bootstrap(
        lambda bags: measure.of(y[bags], values[bags]),
        len(y),
        clusters,
        limits=measure.limits,
        resamples=RESAMPLES,
    )
    return Estimate(found.value, found.low, found.high), "BCa bootstrap of patients"


def compare(
    baseline: Predictions, other: Predictions, measure: Measure
) -> tuple[Estimate, float | None, str] | None:
    """The difference of a group to its baseline on common bags, its p and the test.

    None where one of both has no value of the metric there.
    """
    common = np.intersect1d(baseline.bag_id.astype(str), other.bag_id.astype(str))
    if not len(common):
        return None
    one, two = (_in_order(each, common) for each in (baseline, other))
    y, clusters = two.y, two.clusters
    first, second = values_of(one, measure), values_of(two, measure)
    if measure.name == "auroc" and first.ndim == 1:
        if not 0 < y.sum() < len(y):
            return None
        found = compare_auroc(y, first, second, clusters)
        if found.p is not None:
            return (
                Estimate(found.value, found.low, found.high),
                found.p,
                "DeLong, paired, by patient",
            )
    known = np.isfinite([measure.of(y, values) for values in (first, second)])
    if len(set(clusters)) < 2 or not known.all():
        return None
    test = paired_permutation(
        lambda values: measure.of(y, values),
        first,
        second,
        clusters,
        ranks=measure.ranks,
        draws=DRAWS,
    )
    widest = measure.limits[1] - measure.limits[0]
    interval = cluster_bootstrap(
        lambda bags: measure.of(y[bags], second[bags]) - measure.of(y[bags], first[bags]),
        len(y),
        clusters,
        limits=(-widest, widest),
        resamples=RESAMPLES,
    )
    difference = Estimate(interval.value, interval.low, interval.high)
    return difference, test.p, "permutation of patients"


def pooled_rows(
    pooled: Sequence[OutOfFold],
    baselines: dict[str, Group | None],
    *,
    correction: Correction = "holm",
) -> list[PooledRow]:
    """A row for each target, metric and group, in this order.

    Args:
        pooled: the groups.
        baselines: label of a group to the one it is compared with.
        correction: of the p-values of a metric of a target.
    """
    rows = []
    for groups in by_target(pooled).values():
        by_label = {each.trained.label: each for each in groups}
        for measure in measures(groups[0].predictions):
            found = [_row(each, measure, _baseline(each, baselines, by_label)) for each in groups]
            known = [np.nan if row.p is None else row.p for row in found]
            adjusted = CORRECTIONS[correction](known)
            rows += [
                row if row.p is None else replace(row, adjusted=float(p))
                for row, p in zip(found, adjusted, strict=True)
            ]
    return rows


class _Measured(Protocol):
    """A row of a metric of a target."""

    @property
    def target(self) -> str: ...

    @property
    def measure(self) -> str: ...


MeasuredRow = TypeVar("MeasuredRow", bound=_Measured)


def main_rows(rows: Sequence[MeasuredRow]) -> dict[str, list[MeasuredRow]]:
    """The rows of the main metric of each target, which comes first."""
    found: dict[str, list[MeasuredRow]] = {}
    for row in rows:
        shown = found.setdefault(row.target, [])
        if not shown or row.measure == shown[0].measure:
            shown.append(row)
    return found


def pooled_records(rows: Sequence[PooledRow], correction: Correction) -> list[dict[str, Any]]:
    """Rows for `pooled.csv`: unrounded numbers, None where there is nothing to say."""
    return [
        {
            "group": row.group.label,
            **row.group.values,
            "metric": row.measure,
            "bags": row.bags,
            "patients": row.patients,
            "pooled": row.estimate.value,
            "ci_low": row.estimate.low,
            "ci_high": row.estimate.high,
            "interval": row.method,
            "pooled_single_models": row.single,
            "mean_of_runs": row.runs_mean,
            "diff": row.difference and row.difference.value,
            "diff_low": row.difference and row.difference.low,
            "diff_high": row.difference and row.difference.high,
            "p": row.p,
            "test": row.test or None,
            f"p_{correction}": row.adjusted,
        }
        for row in rows
    ]


def _row(each: OutOfFold, measure: Measure, baseline: OutOfFold | None) -> PooledRow:
    predictions = each.predictions
    value, method = estimate(predictions, measure)
    singles = [measure.of(one.y, values_of(one, measure)) for one in each.rounds]
    name = f"test/{each.target}_{measure.name}" if each.target else f"test/{measure.name}"
    runs = [m.run.metrics[name] for m in each.members if name in m.run.metrics]
    found = None if baseline is None else compare(baseline.predictions, predictions, measure)
    difference, p, test = found or (None, None, "")
    return PooledRow(
        each.group,
        each.target,
        measure.name,
        bags=len(predictions),
        patients=len(set(predictions.clusters)),
        estimate=value,
        method=method,
        single=float(np.mean(singles)),
        runs_mean=float(np.mean(runs)) if runs else None,
        difference=difference,
        p=p,
        test=test,
    )


def _baseline(
    each: OutOfFold, baselines: dict[str, Group | None], known: dict[str, OutOfFold]
) -> OutOfFold | None:
    group = baselines.get(each.trained.label)
    if group is None or group.label == each.trained.label:
        return None
    return known.get(group.label)


def _in_order(predictions: Predictions, bags: NDArray[Any]) -> Predictions:
    number = {bag: i for i, bag in enumerate(predictions.bag_id.tolist())}
    return predictions.take(np.array([number[bag] for bag in bags.tolist()]))
