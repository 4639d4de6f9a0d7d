"""The evaluation of an external cohort beside the internal one."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from milforge.predictions_file import FILE
from milforge.report.analysis.measures import measures
from milforge.report.analysis.of_checkpoint import group_of
from milforge.report.analysis.out_of_fold import OutOfFold, by_target
from milforge.report.analysis.pooled import PooledRow, estimate
from milforge.report.groups import Group
from milforge.report.predictions import Predictions, averaged
from milforge.report.read_predictions import read_targets
from milforge.report.runs import Run
from milforge.report.survey import listed
from milforge.statistics import Estimate


@dataclass(frozen=True)
class ExternalRow:
    """A metric of a group on both cohorts.

    Attributes:
        group: label of the group, with the target where there are several.
        target: the target; empty where the task has no several.
        measure: the metric.
        internal: of the pooled test predictions.
        external: of the external cohort, averaged over the models that were evaluated there.
        difference: external minus internal; the cohorts are independent.
        models: number of evaluations that are averaged.
        bags: labelled bags of the external cohort.
        patients: patients of it.
    """

    group: str
    target: str
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
    strange, calibrated = [], []
    internal = {(each.trained.label, each.target): each for each in pooled}
    for run in runs:
        group = group_of(run, groups)
        if group is None or group.label not in {label for label, _ in internal}:
            strange.append(str(run.folder))
            continue
        if run.summary.get("calibrated"):
            calibrated.append(str(run.folder))
            continue
        if not (run.folder / FILE).is_file():
            notes.append(f"External: {run.folder} has no {FILE}.")
            continue
        try:
            targets = read_targets(run.folder)
        except ValueError as error:
            notes.append(f"External: {error}.")
            continue
        for target, of_target in targets.items():
            read, known = of_target.of_part("test"), internal.get((group.label, target))
            kind = known and (known.predictions.task, known.predictions.class_names)
            if known is None or (read.task, read.class_names) != kind or not read.labels:
                of = f" of {target}" if target else ""
                notes.append(
                    f"External: {run.folder} has no labels{of}, or other classes, and is left out."
                )
            elif len(read.labelled):
                found[known.group.label].append(read.labelled)
    if strange:
        notes.append(
            "External: the checkpoints of these evaluations are of none of the groups, or of more "
            f"than one: {listed(strange)}; give the runs that they come from as FOLDER, and "
            "evaluate the checkpoints of each group by themselves."
        )
    if calibrated:
        notes.append(
            "External: probabilities of calibrated checkpoints, to which thresholds and temperature"
            f" of the runs do not apply, are left out: {listed(calibrated)}; evaluate best.ckpt, "
            "whose temperature the report fits itself."
        )
    predictions = {label: averaged(each)[0] for label, each in found.items()}
    of_label = {each.group.label: each for each in pooled}
    notes += _seen_before(predictions, of_label)
    internal_rows = {(row.group.label, row.measure): row for row in pooled_rows}
    rows = []
    for target, each in by_target([of_label[label] for label in predictions]).items():
        for measure in measures(each[0].predictions):
            for label in (one.group.label for one in each):
                cohort = predictions[label]
                outside = estimate(cohort, measure)[0]
                inside = internal_rows[label, measure.name].estimate
                rows.append(
                    ExternalRow(
                        label,
                        target,
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
