"""All that a report says, gathered once for the terminal, the files and the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from milforge.report.analysis.external import External, compare_external
from milforge.report.analysis.operating_points import PointRow, point_rows
from milforge.report.analysis.out_of_fold import OutOfFold, collect
from milforge.report.analysis.pooled import FEWEST, Correction, PooledRow, pooled_rows
from milforge.report.groups import Group, Grouping, baselines, group_runs
from milforge.report.rows import Row, make_rows
from milforge.report.survey import Survey
from milforge.report.table import explain


@dataclass(frozen=True)
class Results:
    """What a report says.

    Attributes:
        found: the runs.
        grouping: the groups of those that measured something.
        rows: metrics of runs, by metric and group.
        pooled: predictions of the groups that have any.
        pooled_rows: metrics of these, by metric and group.
        points: operating points fixed on validation, of groups with two classes.
        baseline: label of each group to that of the group it is compared with.
        correction: of p-values.
        notes: sentences that a reader should know.
        external: the evaluation of an external cohort; None where none was given.
    """

    found: Survey
    grouping: Grouping
    rows: list[Row]
    pooled: list[OutOfFold]
    pooled_rows: list[PooledRow]
    points: list[PointRow]
    baseline: dict[str, Group | None]
    correction: Correction
    notes: list[str]
    external: External | None = None


def gather(
    found: Survey,
    metrics: Sequence[str],
    *,
    by: Sequence[str] | None = None,
    baseline: Sequence[str] | None = None,
    correction: Correction = "holm",
    external: Survey | None = None,
) -> Results:
    """Groups runs, reads their predictions, and computes what there is to say.

    Args:
        found: the runs; at least one has measured something.
        metrics: names of metrics of runs.
        by: keys to group by; None: all that differ.
        baseline: terms `NAME=VALUE` of the group to compare with.
        correction: of p-values for the number of groups that are compared.
        external: evaluations of an external cohort.

    Raises:
        ValueError: for an unknown key or baseline.
    """
    grouping = group_runs(found.measured, by)
    groups = grouping.groups
    compared: Sequence[Group | None] = [None] * len(groups)
    if baseline:
        compared = baselines(grouping, baseline)
    rows = make_rows(groups, metrics, compared, correction)
    pooled, notes = collect(groups)
    of_group = {group.label: base for group, base in zip(groups, compared, strict=True)}
    pooled_found = pooled_rows(pooled, of_group, correction=correction)
    outside = None
    if external is not None:
        outside = compare_external(external.finished, groups, pooled, pooled_found)
        notes += outside.notes
    return Results(
        found,
        grouping,
        rows,
        pooled,
        pooled_found,
        point_rows(pooled, {} if outside is None else outside.predictions),
        of_group,
        correction,
        [*grouping.notes, *explain(rows, correction), *notes, *_explain_pooled(pooled_found)],
        outside,
    )


def _explain_pooled(rows: Sequence[PooledRow]) -> list[str]:
    if not rows:
        return []
    notes = [
        "Pooled: each test bag is predicted by the mean of the models that did not see it, and all "
        "bags are measured together; single models: the same with one model per bag, averaged over "
        "seeds; mean of runs: each run on its own test part, then the mean."
    ]
    if any(row.measure == "c_index" for row in rows):
        notes.append(
            "Pooled c_index compares risks of different models, each risk less its mean over the "
            "training bags of its model; the mean of runs compares none."
        )
    fewest = min(row.patients for row in rows)
    if fewest < FEWEST:
        counted = "is 1 patient" if fewest == 1 else f"are {fewest} patients"
        notes.append(f"There {counted}: below {FEWEST}, intervals over patients may be too narrow.")
    return notes
