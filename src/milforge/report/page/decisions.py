"""What a threshold does: decision curves, operating points, confusion, conformal sets."""

from dataclasses import replace
from typing import Any

import numpy as np

from milforge.markup import Markup, join, paragraph, tag
from milforge.report.analysis.chosen_on_validation import conformal, is_classification
from milforge.report.analysis.operating_points import PointRow, is_binary
from milforge.report.analysis.out_of_fold import OutOfFold, by_target
from milforge.report.gather import Results
from milforge.report.page.charts import Series, chart
from milforge.report.page.html import Section, interval, number, table
from milforge.report.predictions import Predictions
from milforge.statistics import Estimate, decision_curve

ALPHA = 0.1
THRESHOLDS = np.linspace(0.01, 0.99, 99)
SAMPLES = 200
POINT_HEAD = ["group", "rule", "threshold", "sensitivity", "95%", "specificity", "95%"]
POINT_HEAD += ["PPV", "95%", "NPV", "95%", "TN", "FP", "FN", "TP"]


def decision_curves(results: Results) -> Section:
    """Net benefit against treating all and none."""
    title = "Decision curve"
    figures = []
    for target, groups in by_target(results.pooled).items():
        binary = [each for each in groups if is_binary(each.predictions)]
        if binary:
            of = f" of {target}" if target else ""
            figures.append(_decisions(binary, f"Net benefit of the pooled test predictions{of}"))
    if not figures:
        return Section("decisions", title, None, "no group predicts two classes")
    note = paragraph(
        "Net benefit TP/n - FP/n · t/(1 - t) (Vickers and Elkin 2006). Bands: 95%, bootstrap of "
        "patients. A model helps where it is above both grey lines; where groups were tested on "
        "bags of which other shares are positive, above the line of its own share."
    )
    return Section("decisions", title, join(note, tag("div", *figures, class_="figures")))


def _decisions(groups: list[OutOfFold], title: str) -> Markup:
    """The curves of groups of two classes, with a line for each share of positive bags."""
    series: list[Series] = []
    bases: dict[float, Series] = {}
    t = THRESHOLDS.tolist()
    for each in groups:
        predictions = each.predictions
        curve = decision_curve(predictions.y, predictions.columns["probability_1"], THRESHOLDS)
        low, high = _band(predictions)
        series.append(Series(each.group.label, t, curve.model.tolist(), low, high))
        base = Series("treat all", t, curve.treat_all.tolist(), plain=True)
        bases.setdefault(float(predictions.y.mean()), base)
    top = max(max(each.y) for each in series)
    lowest = -0.1 * max(top, 0.1)
    everyone = []
    for share, base in bases.items():
        within = sum(value >= lowest for value in base.y)  # it falls all the way
        name = "treat all" if len(bases) == 1 else f"treat all, {100 * share:.1f}% positive"
        everyone.append(replace(base, name=name, x=base.x[:within], y=base.y[:within]))
    none = Series("treat none", [0, 1], [0, 0], plain=True)
    return chart(
        [*series, *everyone, none],
        title=title,
        x="threshold probability",
        y="net benefit",
        xlim=(0, 1),
        ylim=(lowest, 1.15 * max(top, 0.1)),
    )


def operating_points(results: Results) -> Section:
    """Thresholds chosen on validation, and what comes of them on test; confusion."""
    title = "Operating points and confusion"
    rows = [point_cells(row) for row in results.points if row.cohort == "internal"]
    others = [
        _confusion(each.group.label, each.predictions)
        for each in results.pooled
        if is_classification(each.predictions) and not is_binary(each.predictions)
    ]
    parts = []
    if rows:
        note = paragraph(
            "The threshold of each fold is chosen on its validation part, or on the bags that were "
            "held back to calibrate, and applied to its test part: it was never chosen on test. "
            "Test bags of folds whose validation part lacks a class are left out. Intervals: "
            "Wilson, over patients."
        )
        parts += [note, table(POINT_HEAD, rows, "Operating points fixed on validation")]
    if not parts and not others:
        return Section("operating", title, None, "no group predicts classes")
    return Section("operating", title, join(*parts, *others))


def point_cells(row: PointRow) -> list[Any]:
    """An operating point as cells below `POINT_HEAD`."""
    point = row.point
    if point is None:
        cells = [row.group, row.rule, "no validation part has both classes"]
        return cells + [""] * (len(POINT_HEAD) - len(cells))
    low, high = min(row.thresholds), max(row.thresholds)
    shown = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
    if row.cohort == "internal" and len(row.thresholds) < row.folds:
        shown += f", of {len(row.thresholds)} of {row.folds} folds"
    shares = (point.sensitivity, point.specificity, point.positive_value, point.negative_value)
    cells = [cell for found in shares for cell in _share(found)]
    return [row.group, row.rule, shown, *cells, *point.confusion]


def conformal_section(results: Results) -> Section:
    """Sets of classes with a promised coverage."""
    title = "Conformal sets"
    shown = [
        _sets_table(groups, f"{title}{target and f' of {target}'}")
        for target, groups in by_target(results.pooled).items()
    ]
    tables = [each for each in shown if each is not None]
    if not tables:
        return Section("conformal", title, None, "no run has validation bags with classes")
    note = paragraph(
        f"Each set is to hold the true class of {100 * (1 - ALPHA):g}% of patients. Thresholds: "
        f"quantiles of 1 - p over the validation patients of each fold, by class where a class has "
        f"at least {1 / ALPHA - 1:.0f}. Where these also chose the epoch, coverage is a little too "
        "low; with too few of them sets are full."
    )
    return Section("conformal", title, join(note, *tables))


def _sets_table(groups: list[OutOfFold], caption: str) -> Markup | None:
    rows = []
    for each in groups:
        found = conformal(each, ALPHA) if is_classification(each.predictions) else None
        if found is None:
            continue
        rows.append(
            [
                each.group.label,
                *_share(found.coverage),
                *(cell for one in found.by_class for cell in _share(one)),
                (number(found.size, 2), found.size),
                *_share(found.single),
                found.full,
            ]
        )
    if not rows:
        return None
    head = ["group", "coverage", "95%"]
    names = groups[0].predictions.class_names
    head += [cell for name in names for cell in (f"of {name}", "95%")]
    head += ["mean size", "sets of one class", "95%", "folds with full sets"]
    return table(head, rows, caption)


def _band(predictions: Predictions) -> tuple[list[float], list[float]]:
    """95% of the curves of samples of patients, at each threshold."""
    generator = np.random.default_rng(0)
    _, of_bag = np.unique(predictions.clusters.astype(str), return_inverse=True)
    y, p = predictions.y.astype(bool), predictions.columns["probability_1"]
    odds = THRESHOLDS / (1 - THRESHOLDS)
    treated = p[None, :] >= THRESHOLDS[:, None]
    gains = (treated & y) - (treated & ~y) * odds[:, None]
    drawn = generator.multinomial(
        of_bag.max() + 1, np.full(of_bag.max() + 1, 1 / (of_bag.max() + 1)), size=SAMPLES
    )[:, of_bag]
    samples = drawn @ gains.T / drawn.sum(1, keepdims=True)
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    return low.tolist(), high.tolist()


def _share(found: Estimate | None) -> list[Any]:
    if found is None:
        return ["none", ""]
    return [(number(found.value), found.value), interval(found)]


def _confusion(label: str, predictions: Predictions) -> Any:
    names = predictions.class_names
    called = predictions.predicted("probability").argmax(1)
    rows = [
        [name, *(int(((predictions.y == c) & (called == k)).sum()) for k in range(len(names)))]
        for c, name in enumerate(names)
    ]
    head = ["true class", *(f"called {name}" for name in names)]
    return table(head, rows, f"Confusion: {label} (the most probable class)")
