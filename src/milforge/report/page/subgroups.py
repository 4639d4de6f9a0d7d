"""The main metric in parts of the cohort."""

from itertools import product

import numpy as np

from milforge.markup import join, paragraph, tag
from milforge.report.analysis.measures import measures
from milforge.report.analysis.out_of_fold import by_target
from milforge.report.analysis.pooled import FEWEST, estimate
from milforge.report.gather import Results
from milforge.report.page.charts import forest
from milforge.report.page.html import Section, interval, number, table

MOST_VALUES = 12


def subgroups(results: Results) -> Section:
    """By every column of the label table with a few values."""
    title = "Subgroups"
    columns: dict[str, None] = {}
    targets = by_target(results.pooled)
    known = {target: measures(groups[0].predictions) for target, groups in targets.items()}
    for each in results.pooled:
        for name, texts in each.predictions.table.items():
            values = {text for text in texts.tolist() if text is not None}
            if 2 <= len(values) <= MOST_VALUES:
                columns.setdefault(name)
    if not columns:
        return Section(
            "subgroups",
            title,
            None,
            f"the label table has no other column with 2 to {MOST_VALUES} values",
        )
    if not any(known.values()):
        return Section("subgroups", title, None, "no metric is known for this task")
    parts = []
    for target, name in product((target for target in targets if known[target]), columns):
        measure, of = known[target][0], f" of {target}" if target else ""
        rows, plotted = [], []
        for each in targets[target]:
            if name not in each.predictions.table:
                continue
            texts = each.predictions.table[name]
            for value in sorted({text for text in texts.tolist() if text is not None}):
                chosen = each.predictions.take(np.array([t == value for t in texts], bool))
                found, method = estimate(chosen, measure)
                patients = len(set(chosen.clusters))
                note = "" if patients >= FEWEST else f"fewer than {FEWEST} patients"
                if not np.isfinite(found.value):
                    note = "one class, or no value"
                rows.append(
                    [
                        each.group.label,
                        value,
                        len(chosen),
                        patients,
                        "" if note.startswith("one") else (number(found.value), found.value),
                        interval(found),
                        note or method,
                    ]
                )
                plotted.append((f"{each.group.label}, {value}", *found))
        head = ["group", name, "bags", "patients", measure.name, "95% interval", ""]
        shown = f"{measure.name}{of}"
        figure = forest(plotted, title=f"{shown} by {name}", x=shown, zero=None)
        parts += [table(head, rows, f"{shown} by {name}"), tag("div", figure, class_="figures")]
    note = paragraph(
        "Of the pooled test predictions. Subgroups were not planned beforehand unless you say so, "
        "and their intervals are not corrected for their number."
    )
    return Section("subgroups", title, join(note, *parts))
