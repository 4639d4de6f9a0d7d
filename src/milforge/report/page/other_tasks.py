"""Predicted numbers, and links to maps."""

import os
from pathlib import Path
from urllib.parse import quote

import numpy as np

from milforge.markup import Markup, bullets, tag
from milforge.report.gather import Results
from milforge.report.page.charts import Series, chart
from milforge.report.page.html import Section
from milforge.report.survey import MOST_NAMED

MOST_POINTS = 1500
MOST_LINKS = 200


def regression(results: Results) -> Section:
    """Predicted against true numbers."""
    title = "Predicted against true"
    figures = []
    for each in results.pooled:
        predictions = each.predictions
        if not predictions.has("prediction") or predictions.y.ndim != 1:
            continue
        y, p = predictions.y, predictions.predicted("prediction")
        if p.ndim != 1:
            continue
        chosen = np.linspace(0, len(y) - 1, min(len(y), MOST_POINTS)).astype(int)
        ends = (float(min(y.min(), p.min())), float(max(y.max(), p.max())))
        points = Series(
            each.group.label,
            y[chosen].tolist(),
            p[chosen].tolist(),
            kind="points",
            labels=[
                f"{predictions.bag_id[i]}: true {y[i]:.4g}, predicted {p[i]:.4g}" for i in chosen
            ],
        )
        line = Series("equal", ends, ends, plain=True)
        figures.append(chart([points, line], title=each.group.label, x="true", y="predicted"))
    if not figures:
        return Section("regression", title, None, "no group predicts numbers")
    return Section("regression", title, tag("div", *figures, class_="figures"))


def maps(results: Results, page: Path) -> Section:
    """Links to the slide maps in the folders of runs."""
    title = "Maps"
    found = []
    for run in results.found.finished:
        index = run.folder / "maps" / "index.html"
        if index.is_file():
            count = sum(each.is_dir() for each in index.parent.iterdir())
            found.append(_link(index, page, f"{run.folder.name}: {count} maps"))
            continue
        for path in sorted((run.folder / "maps").glob("**/*.html"))[:MOST_NAMED]:
            found.append(_link(path, page, f"{run.folder.name}: {path.stem}"))
    if not found:
        return Section("maps", title, None, "no run's folder holds maps (maps/index.html)")
    return Section("maps", title, bullets(found[:MOST_LINKS]))


def _link(path: Path, page: Path, text: str) -> Markup:
    relative = os.path.relpath(path.resolve(), page.resolve().parent)
    return tag("a", text, href=quote(relative))
