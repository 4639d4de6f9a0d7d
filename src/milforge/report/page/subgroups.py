"""The main metric in parts of the cohort."""

import numpy as np

from milforge.markup import join, paragraph, tag
from milforge.report.analysis.measures import measures
from milforge.report.analysis.pooled import FEWEST, estimate
from milforge.report.gather import Results
from milforge.report.page.charts import forest
from milforge.report.page.html import Section, interval, number, table

MOST_VALUES = 12


def subgroups(results: Results) -> Section:
    """By every column of the label table with a few values."""
    title = "Subgroups"
    columns: dict[str, None] = {}
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
    known = measures(results.pooled[0].predictions)
    if not known:
        return Section("subgroups", title, None, "no metric is known for this task")
    measure = known[0]
    parts = []
    for name in columns:
        rows, plotted = [], []
        for each in results.pooled:
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
        figure = forest(plotted, title=f"{measure.name} by {name}", x=measure.name, zero=None)
        parts += [table(head, rows, f"By {name}"), tag("div", figure, class_="figures")]
    note = paragraph(
        "Of the pooled test predictions. Subgroups were not planned beforehand unless you say so, "
        "and their intervals are not corrected for their number."
    )
    return Section("subgroups", title, join(note, *parts))
