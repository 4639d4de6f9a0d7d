"""Thresholds fixed on validation, and what comes of them on test and on an external cohort."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from milforge.report.analysis.chosen_on_validation import at_threshold, is_classification
from milforge.report.analysis.out_of_fold import OutOfFold
from milforge.report.predictions import Predictions
from milforge.statistics import (
    OperatingPoint,
    operating_point,
    sensitivity_threshold,
    youden_threshold,
)

Cohort = Literal["internal", "external"]
WANTED = 0.95  # sensitivity
RULES: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]] = {
    "Youden": youden_threshold,
    f"sensitivity {WANTED:g}": partial(sensitivity_threshold, wanted=WANTED),
}
SHARES = ("sensitivity", "specificity", "positive_value", "negative_value", "accuracy")


@dataclass(frozen=True)
class PointRow:
    """What comes of a rule for the threshold on a cohort.

    Attributes:
        group: label of the group.
        rule: by which each fold's threshold was chosen on its validation bags.
        cohort: whether the test bags of the folds, or those of another cohort.
        thresholds: of the folds; of an external cohort their mean alone, which is applied to the
            mean of the models; none where no validation part has both classes.
        folds: of the group; those whose validation part lacks a class have no threshold, and their
            test bags are left out.
        point: what comes of it; None without a threshold.
    """

    group: str
    rule: str
    cohort: Cohort
    thresholds: list[float]
    folds: int
    point: OperatingPoint | None


def is_binary(predictions: Predictions) -> bool:
    """Whether each bag has one of two classes."""
    return is_classification(predictions) and len(predictions.class_names) == 2


def point_rows(pooled: Sequence[OutOfFold], external: Mapping[str, Predictions]) -> list[PointRow]:
    """A row for each group of two classes, rule and cohort.

    Args:
        pooled: the groups.
        external: label of a group to what it predicts of another cohort.
    """
    rows = []
    for each in pooled:
        if not is_binary(each.predictions):
            continue
        label = each.group.label
        for rule, choose in RULES.items():
            found = at_threshold(each, choose)
            thresholds, point = ([], None) if found is None else (found.thresholds, found.point)
            rows.append(PointRow(label, rule, "internal", thresholds, len(each.parts), point))
            if label in external:
                rows.append(_outside(label, rule, thresholds, len(each.parts), external[label]))
    return rows


def _outside(
    label: str, rule: str, thresholds: list[float], folds: int, cohort: Predictions
) -> PointRow:
    if not thresholds:
        return PointRow(label, rule, "external", [], folds, None)
    threshold = float(np.mean(thresholds))
    point = operating_point(cohort.y, cohort.columns["probability_1"], threshold, cohort.clusters)
    return PointRow(label, rule, "external", [threshold], folds, point)


def point_records(rows: Sequence[PointRow]) -> list[dict[str, Any]]:
    """Rows for `operating_points.csv`: unrounded numbers, None where there is nothing to say."""
    records = []
    for row in rows:
        record: dict[str, Any] = {"group": row.group, "rule": row.rule, "cohort": row.cohort}
        record["threshold_lowest"] = min(row.thresholds, default=None)
        record["threshold_highest"] = max(row.thresholds, default=None)
        counts = row.point.confusion if row.point else (None,) * 4
        record |= dict(zip(("tn", "fp", "fn", "tp"), counts, strict=True))
        for name in SHARES:
            found = getattr(row.point, name) if row.point else None
            record[name] = found and found.value
            record[f"{name}_low"], record[f"{name}_high"] = found[1:] if found else (None, None)
        records.append(record)
    return records
