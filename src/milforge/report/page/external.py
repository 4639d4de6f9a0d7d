"""The external cohort beside the internal one."""

from typing import Any

import numpy as np

from milforge.markup import Markup, join, paragraph, tag
from milforge.report.analysis.chosen_on_validation import divided, temperature_scaled
from milforge.report.analysis.pooled import main_rows
from milforge.report.gather import Results
from milforge.report.page.calibration import (
    HEAD,
    numbers,
    reliability,
    reliability_chart,
    targets,
)
from milforge.report.page.charts import Series, forest
from milforge.report.page.decisions import POINT_HEAD, point_cells
from milforge.report.page.html import Section, interval, number, table


def external(results: Results) -> Section:
    """Metrics, operating points and calibration on both cohorts."""
    title = "External cohort"
    if results.external is None or not results.external.rows:
        return Section("external", title, None, "no evaluation of one was given (--external RUNS)")
    rows = [
        [
            row.measure,
            row.group,
            row.models,
            row.bags,
            row.patients,
            (number(row.internal.value), row.internal.value),
            interval(row.internal),
            (number(row.external.value), row.external.value),
            interval(row.external),
            (number(row.difference.value, sign="+"), row.difference.value),
            interval(row.difference, sign="+"),
        ]
        for row in results.external.rows
    ]
    head = ["metric", "group", "models", "bags", "patients", "internal", "95% interval"]
    head += ["external", "95% interval", "external - internal", "95% interval"]
    figures = []
    for target, shown in main_rows(results.external.rows).items():
        plotted = [
            (f"{row.group}, {name}", *found)
            for row in shown
            for name, found in (("internal", row.internal), ("external", row.external))
        ]
        main = f"{shown[0].measure}{target and f' of {target}'}"
        figures.append(forest(plotted, title=f"{main} on both cohorts", x=main, zero=None))
    parts = [table(head, rows, title), *figures, *_points(results), *_calibration(results)]
    return Section("external", title, join(*parts))


def _points(results: Results) -> list[Markup]:
    labels = {row.group for row in results.points if row.cohort == "external"}
    rows: list[list[Any]] = []
    for row in results.points:
        if row.group in labels:
            group, *cells = point_cells(row)
            rows.append([group, row.cohort, *cells])
    if not rows:
        return []
    note = paragraph(
        "The thresholds were fixed on the validation bags of the internal folds. The external "
        "cohort is predicted by the mean of the models, at the mean of their thresholds: nothing "
        "was chosen on it."
    )
    head = [POINT_HEAD[0], "cohort", *POINT_HEAD[1:]]
    return [note, table(head, rows, "Operating points on both cohorts")]


def _calibration(results: Results) -> list[Markup]:
    """Before and after the mean of the temperatures of the internal folds."""
    assert results.external is not None
    rows: list[list[Any]] = []
    figures = []
    for each in results.pooled:
        label = each.group.label
        cohort = results.external.predictions.get(label)
        if cohort is None or not targets(cohort):
            continue
        stages = {"internal": each.predictions, "external": cohort}
        scaled = temperature_scaled(each)
        if scaled is not None:
            temperature = float(np.exp(np.mean(np.log(scaled.temperatures))))
            stages["internal, after temperature"] = scaled.predictions
            stages[f"external, after temperature {temperature:.2f}"] = divided(cohort, temperature)
        drawn: dict[str, list[Series]] = {}
        for stage, predictions in stages.items():
            for target in targets(predictions):
                name = f"{target.name}, {stage}" if target.name else stage
                rows.append([label, name, *numbers(target)])
                drawn.setdefault(target.name, []).append(reliability(stage, target))
        for name, series in drawn.items():
            shown = f"Both cohorts: {label}{name and f', {name}'}"
            figures.append(reliability_chart(series, shown))
    if not rows:
        return []
    note = paragraph(
        "The temperature of the external cohort is the geometric mean of those that were fitted on "
        "the validation bags of the internal folds."
    )
    return [
        note,
        table(HEAD, rows, "Calibration on both cohorts"),
        tag("div", *figures, class_="figures"),
    ]
