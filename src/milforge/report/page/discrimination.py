"""ROC and precision-recall curves, and calibration."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.markup import join, paragraph, tag
from milforge.report.chosen_on_validation import is_classification, temperature_scaled
from milforge.report.gather import Results
from milforge.report.out_of_fold import OutOfFold
from milforge.report.page.charts import Series, chart
from milforge.report.page.html import Section, interval, number, table
from milforge.report.predictions import Predictions
from milforge.statistics import (
    brier_parts,
    debiased_ece,
    precision_recall_curve,
    recalibration,
    reliability_bins,
    roc_curve,
)

UNIT = (0.0, 1.0)


def curves(results: Results) -> Section:
    """ROC and precision-recall of the pooled predictions, of each class against the rest."""
    title = "ROC and precision-recall"
    figures = []
    for name, sides in _classes(results).items():
        roc, pr = [], []
        for label, (y, p) in sides.items():
            if 0 < y.sum() < len(y):
                one, two = roc_curve(y, p), precision_recall_curve(y, p)
                said = [
                    f"threshold {t:.3g}: {a:.3f}, {b:.3f}" for a, b, t in zip(*one, strict=True)
                ]
                roc.append(Series(label, one.x.tolist(), one.y.tolist(), labels=said))
                said = [
                    f"threshold {t:.3g}: {a:.3f}, {b:.3f}" for a, b, t in zip(*two, strict=True)
                ]
                pr.append(Series(label, two.x.tolist(), two.y.tolist(), labels=said))
        if roc:
            chance = Series("chance", UNIT, UNIT, plain=True)
            figures += [
                chart([*roc, chance], title=f"ROC: {name}", x="1 - specificity",
                      y="sensitivity", xlim=UNIT, ylim=UNIT),
                chart(pr, title=f"Precision and recall: {name}", x="recall (sensitivity)",
                      y="precision", xlim=UNIT, ylim=UNIT),
            ]  # fmt: skip
    if not figures:
        return Section("curves", title, None, "no group has test bags of several classes")
    note = paragraph("Of the pooled test predictions.")
    return Section("curves", title, join(note, tag("div", *figures, class_="figures")))


def calibration(results: Results) -> Section:
    """Reliability, Brier score, slope and intercept, before and after temperature."""
    title = "Calibration"
    rows, figures = [], []
    for each in results.pooled:
        if not is_classification(each.predictions):
            continue
        scaled = temperature_scaled(each)
        stages = [("before", each.predictions)]
        if scaled is not None:
            stages.append(("after temperature", scaled.predictions))
        series = []
        for stage, predictions in stages:
            y, p = _confidence(predictions)
            rows.append([each.group.label, stage, *_numbers(y, p)])
            bins = reliability_bins(y, p)
            series.append(
                Series(
                    stage,
                    [b.predicted for b in bins],
                    [b.observed.value for b in bins],
                    [b.observed.low for b in bins],
                    [b.observed.high for b in bins],
                    kind="both",
                    labels=[
                        f"{b.bags} bags, predicted {b.predicted:.3f}, observed "
                        f"{b.observed.value:.3f}"
                        for b in bins
                    ],
                )
            )
        diagonal = Series("calibrated", UNIT, UNIT, plain=True)
        figures.append(
            chart([*series, diagonal], title=each.group.label, x="predicted", y="observed",
                  xlim=UNIT, ylim=UNIT)
        )  # fmt: skip
        if scaled is not None:
            found = ", ".join(f"{t:.2f}" for t in scaled.temperatures[:10])
            rows[-1].append(found)
            rows[-2].append("")
        else:
            rows[-1].append("no validation bags")
    if not rows:
        return Section("calibration", title, None, "no group predicts probabilities of classes")
    head = ["group", "", "Brier", "reliability", "resolution", "uncertainty", "debiased ECE"]
    head += ["slope", "95% interval", "intercept", "in the large", "temperature per fold"]
    note = paragraph(
        "Two classes: the probability of the positive one; more: that of the predicted class "
        "against whether it is right. The temperature is fitted on the validation part of each "
        "fold, or on the bags that were held back to calibrate, and applied to its test part. Bins "
        "have about as many bags each; hover to see their number."
    )
    caption = "Calibration of the pooled test predictions"
    return Section(
        "calibration",
        title,
        join(note, table(head, rows, caption), tag("div", *figures, class_="figures")),
    )


def _numbers(y: NDArray[np.float64], p: NDArray[np.float64]) -> list[Any]:
    parts = brier_parts(y, p)
    cells: list[Any] = [parts.score, parts.reliability, parts.resolution, parts.uncertainty]
    cells.append(debiased_ece(y, p))
    found = recalibration(y, p)
    if found is None:
        return [*cells, "not finite", "", "", ""]
    slope, intercept, large = found
    return [
        *cells,
        (number(slope.value, 2), slope.value),
        interval(slope, 2),
        (number(intercept.value, 2), intercept.value),
        (number(large.value, 2), large.value),
    ]


def _confidence(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels and probabilities of the positive class, or whether the predicted one is right."""
    p, y = predictions.predicted("probability"), predictions.y
    if p.shape[1] == 2:
        return y, np.clip(p[:, 1], 0, 1)
    return (p.argmax(1) == y).astype(float), np.clip(p.max(1), 0, 1)


def _classes(
    results: Results,
) -> dict[str, dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]]:
    """Class to group to labels and probabilities."""
    found: dict[str, dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]] = {}
    for each in results.pooled:
        for name, y, p in _one_against_rest(each):
            found.setdefault(name, {})[each.group.label] = (y, p)
    return found


def _one_against_rest(
    each: OutOfFold,
) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64]]]:
    predictions = each.predictions
    if not predictions.has("probability"):
        return []
    p, y, names = predictions.predicted("probability"), predictions.y, predictions.class_names
    if y.ndim == 1 and p.shape[1] == 2:
        return [(names[1] if len(names) == 2 else "positive", y == 1, p[:, 1])]
    labels = [y[:, c] == 1 if y.ndim == 2 else y == c for c in range(p.shape[1])]
    return [
        (names[c] if c < len(names) else str(c), labels[c], p[:, c]) for c in range(len(labels))
    ]
