"""The evaluation of an external cohort beside the internal one."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from milforge.data.predictions_file import FILE
from milforge.report.analysis.measures import measures
from milforge.report.analysis.of_checkpoint import group_of
from milforge.report.analysis.out_of_fold import OutOfFold
from milforge.report.analysis.pooled import PooledRow, estimate
from milforge.report.groups import Group
from milforge.report.predictions import Predictions, averaged, read_predictions
from milforge.report.runs import Run
from milforge.report.survey import listed
from milforge.statistics import Estimate


@dataclass(frozen=True)
class ExternalRow:
    """A metric of a group on both cohorts.

    Attributes:
        group: label of the group.
        measure: the metric.
        internal: of the pooled test predictions.
        external: of the external cohort, averaged over the models that were evaluated there.
        difference: external minus internal; the cohorts are independent.
        models: number of evaluations that are averaged.
        bags: labelled bags of the external cohort.
        patients: patients of it.
    """

    group: str
    measure: str
    internal: Estimate
    external: Estimate
    difference: Estimate
    models: int
    bags: int
    patients: int


@dataclass(frozen=True)
class External:
    """All of the external cohort.

    Attributes:
        rows: metric after metric.
        predictions: label of a group to its predictions there.
        notes: what a reader should know.
    """

    rows: list[ExternalRow]
    predictions: dict[str, Predictions]
    notes: list[str]


def compare_external(
    runs: Sequence[Run],
    groups: Sequence[Group],
    pooled: Sequence[OutOfFold],
    pooled_rows: Sequence[PooledRow],
) -> External:
    """Reads the evaluations of an external cohort, each matched to the group of its checkpoint.

    Args:
        runs: the finished runs of `milforge-evaluate` on the external cohort.
        groups: of the internal runs.
        pooled: predictions of these.
        pooled_rows: metrics of these.
    """
    notes: list[str] = []
    found: dict[str, list[Predictions]] = defaultdict(list)
    strange = []
    internal = {each.group.label: each for each in pooled}
    for run in runs:
        group = group_of(run, groups)
        if group is None or group.label not in internal:
            strange.append(str(run.folder))
            continue
        if not (run.folder / FILE).is_file():
            notes.append(f"External: {run.folder} has no {FILE}.")
            continue
        try:
            read = read_predictions(run.folder).of_part("test")
        except ValueError as error:
            notes.append(f"External: {error}.")
            continue
        own = internal[group.label].predictions
        if (read.task, read.class_names) != (own.task, own.class_names) or not read.labels:
            notes.append(
                f"External: {run.folder} has no labels, or other classes, and is left out."
            )
        elif len(read.labelled):
            found[group.label].append(read.labelled)
    if strange:
        notes.append(
            "External: the checkpoint of these evaluations is in none of the groups: "
            f"{listed(strange)}; give the runs that it comes from as FOLDER."
        )
    predictions = {label: averaged(each)[0] for label, each in found.items()}
    notes += _seen_before(predictions, internal)
    known = {(row.group.label, row.measure): row for row in pooled_rows}
    rows = []
    for number in range(max((len(measures(each)) for each in predictions.values()), default=0)):
        for label, cohort in predictions.items():
            measure = measures(cohort)[number]
            outside = estimate(cohort, measure)[0]
            inside = known[label, measure.name].estimate
            rows.append(
                ExternalRow(
                    label,
                    measure.name,
                    inside,
                    outside,
                    _apart(outside, inside),
                    len(found[label]),
                    len(cohort),
                    len(set(cohort.clusters)),
                )
            )
    return External(rows, predictions, notes)


def external_records(rows: Sequence[ExternalRow]) -> list[dict[str, Any]]:
    """Rows for `external.csv`."""
    return [
        {
            "group": row.group,
            "metric": row.measure,
            "models": row.models,
            "bags": row.bags,
            "patients": row.patients,
            "internal": row.internal.value,
            "internal_low": row.internal.low,
            "internal_high": row.internal.high,
            "external": row.external.value,
            "external_low": row.external.low,
            "external_high": row.external.high,
            "diff": row.difference.value,
            "diff_low": row.difference.low,
            "diff_high": row.difference.high,
        }
        for row in rows
    ]


def _seen_before(predictions: dict[str, Predictions], internal: dict[str, OutOfFold]) -> list[str]:
    notes = []
    for label, cohort in predictions.items():
        seen = set(internal[label].predictions.clusters) & set(cohort.clusters)
        if seen:
            notes.append(
                f"External: {len(seen)} patients or bags of {label} are also in the internal "
                f"cohort ({listed(sorted(seen)[:3])}): it is not external for them."
            )
    return notes


def _apart(one: Estimate, other: Estimate) -> Estimate:
    """Difference of independent estimates (Zou and Donner 2008)."""
    value = one.value - other.value
    down = math.hypot(one.value - one.low, other.high - other.value)
    up = math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, value - down, value + up)
