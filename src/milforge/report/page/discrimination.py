"""ROC and precision-recall curves."""

import numpy as np
from numpy.typing import NDArray

from milforge.markup import join, paragraph, tag
from milforge.report.analysis.measures import known_pairs
from milforge.report.analysis.out_of_fold import OutOfFold
from milforge.report.gather import Results
from milforge.report.page.charts import UNIT, Series, chart
from milforge.report.page.html import Section
from milforge.statistics import precision_recall_curve, roc_curve


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


def _classes(
    results: Results,
) -> dict[str, dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]]:
    """Class to group to labels and probabilities."""
    found: dict[str, dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]] = {}
    for each in results.pooled:
        for name, y, p in _one_against_rest(each):
            shown = f"{each.target}, {name}" if each.target else name
            found.setdefault(shown, {})[each.group.label] = (y, p)
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
    each_label = y if y.ndim == 2 else (y[:, None] == np.arange(p.shape[1])).astype(float)
    return [
        (names[c] if c < len(names) else str(c), label == 1, q)
        for c, (label, q) in enumerate(known_pairs(each_label, p))
    ]
