"""Whether probabilities are what they say: reliability, Brier score, slope and intercept."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milforge.markup import Markup, join, paragraph, tag
from milforge.report.analysis.chosen_on_validation import (
    is_classification,
    is_multilabel,
    temperature_scaled,
)
from milforge.report.gather import Results
from milforge.report.page.charts import UNIT, Series, chart
from milforge.report.page.html import Section, interval, number, table
from milforge.report.predictions import Predictions, Texts
from milforge.statistics import brier_parts, debiased_ece, recalibration, reliability_bins

HEAD = ["group", "", "Brier", "reliability", "resolution", "uncertainty", "debiased ECE"]
HEAD += ["slope", "95% interval", "intercept", "in the large", "95% interval"]
DIAGONAL = Series("calibrated", UNIT, UNIT, plain=True)


class Target(NamedTuple):
    """What a probability is held against.

    Attributes:
        name: of a label of several; else empty.
        y: `(n,)` of 0 and 1.
        p: `(n,)` the probability of 1.
        patients: `(n,)` the patient of each bag.
    """

    name: str
    y: NDArray[np.float64]
    p: NDArray[np.float64]
    patients: Texts


def calibration(results: Results) -> Section:
    """Reliability, Brier score, slope and intercept, before and after temperature."""
    title = "Calibration"
    rows: list[list[Any]] = []
    figures = []
    for each in results.pooled:
        if not targets(each.predictions):
            continue
        stages = {"before": each.predictions}
        scaled = temperature_scaled(each)
        temperatures = "no validation bags"
        if scaled is not None:
            stages["after temperature"] = scaled.predictions
            temperatures = ", ".join(f"{t:.2f}" for t in scaled.temperatures[:10])
        drawn: dict[str, list[Series]] = {}
        for stage, predictions in stages.items():
            last = stage == "after temperature" or scaled is None
            for target in targets(predictions):
                name = f"{target.name}, {stage}" if target.name else stage
                cells = [each.group.label, name, *numbers(target)]
                rows.append([*cells, temperatures if last else ""])
                drawn.setdefault(target.name, []).append(reliability(stage, target))
        for name, series in drawn.items():
            shown = f"{each.group.label}: {name}" if name else each.group.label
            figures.append(reliability_chart(series, shown))
    if not rows:
        return Section("calibration", title, None, "no group predicts probabilities of classes")
    note = paragraph(
        "Two classes: the probability of the positive one; more: that of the predicted class "
        "against whether it is right; several labels: each by itself. The temperature, one for all "
        "labels, is fitted on the validation part of each fold, or on the bags that were held back "
        "to calibrate, and applied to its test part. Bins have about as many bags each; hover to "
        "see their number. Intervals are over patients: Wilson's of a bin, of slope and intercept "
        "Wald's with the scores of patients."
    )
    shown = table(
        [*HEAD, "temperature per fold"], rows, "Calibration of the pooled test predictions"
    )
    return Section("calibration", title, join(note, shown, tag("div", *figures, class_="figures")))


def targets(predictions: Predictions) -> list[Target]:
    """What the probabilities of a task are held against; none of a task without any.

    Of two classes the positive one, of more whether the predicted one is right, of several labels
    each.
    """
    y, patients = predictions.y, predictions.clusters
    if is_multilabel(predictions):
        p = np.clip(predictions.predicted("probability"), 0, 1)
        names = predictions.class_names or tuple(map(str, range(p.shape[1])))
        found = []
        for name, label, q in zip(names, y.T, p.T, strict=True):
            known = ~np.isnan(label.astype(float))
            if known.any():
                found.append(Target(name, label[known], q[known], patients[known]))
        return found
    if not is_classification(predictions):
        return []
    p = np.clip(predictions.predicted("probability"), 0, 1)
    if p.shape[1] == 2:
        return [Target("", y, p[:, 1], patients)]
    return [Target("", (p.argmax(1) == y).astype(float), p.max(1), patients)]


def numbers(target: Target) -> list[Any]:
    """Cells below `HEAD`, from the Brier score on."""
    y, p = target.y, target.p
    parts = brier_parts(y, p)
    cells: list[Any] = [parts.score, parts.reliability, parts.resolution, parts.uncertainty]
    cells.append(debiased_ece(y, p))
    found = recalibration(y, p, target.patients)
    if found is None:
        return [*cells, "not finite", "", "", "", ""]
    slope, intercept, large = found
    return [
        *cells,
        (number(slope.value, 2), slope.value),
        interval(slope, 2),
        (number(intercept.value, 2), intercept.value),
        (number(large.value, 2), large.value),
        interval(large, 2),
    ]


def reliability(name: str, target: Target) -> Series:
    """The share of positives of bins of like probability, with intervals and counts."""
    bins = reliability_bins(target.y, target.p, clusters=target.patients)
    return Series(
        name,
        [b.predicted for b in bins],
        [b.observed.value for b in bins],
        [b.observed.low for b in bins],
        [b.observed.high for b in bins],
        kind="both",
        labels=[
            f"{b.bags} bags, predicted {b.predicted:.3f}, observed {b.observed.value:.3f}"
            for b in bins
        ],
    )


def reliability_chart(series: list[Series], title: str) -> Markup:
    """A figure of them with the diagonal."""
    shown = [*series, DIAGONAL]
    return chart(shown, title=title, x="predicted", y="observed", xlim=UNIT, ylim=UNIT)
