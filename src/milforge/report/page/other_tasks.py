"""Numbers and survival, and links to maps."""

import os
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milforge.markup import bullets, join, paragraph, tag
from milforge.report.gather import Results
from milforge.report.page.charts import Series, chart
from milforge.report.page.html import Section, interval, table
from milforge.report.predictions import Floats, Texts
from milforge.report.survey import MOST_NAMED
from milforge.statistics import BootstrapEstimate, cluster_bootstrap
from milforge.statistics.survival import concordance

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


def survival(results: Results) -> Section:
    """Kaplan-Meier curves of low and high risk, and the concordance."""
    title = "Survival"
    rows, figures = [], []
    for each in results.pooled:
        predictions = each.predictions
        if not {"time", "event"} <= set(predictions.labels) or "risk" not in predictions.columns:
            continue
        time, event = predictions.labels["time"], predictions.labels["event"] == 1
        risk = predictions.columns["risk"]
        found = _concordance(time, event, risk, predictions.clusters)
        rows.append(
            [each.group.label, len(time), int(event.sum()), found.value, interval(found[1:3])]
        )
        high = risk > np.median(risk)
        series = []
        for name, chosen in (("low risk", ~high), ("high risk", high)):
            if chosen.any():
                x, y = _steps(time[chosen], event[chosen])
                series.append(Series(f"{name} ({chosen.sum()})", x.tolist(), y.tolist()))
        figures.append(chart(series, title=each.group.label, x="time", y="survival", ylim=(0, 1)))
    if not rows:
        return Section("survival", title, None, "no run predicts risk with times and events")
    head = ["group", "bags", "events", "C (Harrell)", "95% interval"]
    note = paragraph(
        "Low and high risk: below and above the median of the pooled risk. Risks of different "
        "folds have different scales, so pooled C may be lower than that within folds."
    )
    return Section(
        "survival",
        title,
        join(note, table(head, rows, title), tag("div", *figures, class_="figures")),
    )


def _steps(time: Floats, event: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The corners of the Kaplan-Meier curve, from time 0 on.

    Example:
        >>> x, y = _steps(np.array([1.0, 2, 3]), np.array([True, False, True]))
        >>> x.tolist(), y.round(2).tolist()
        ([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [1.0, 1.0, 0.67, 0.67, 0.67, 0.67, 0.0])
    """
    data = stats.CensoredData(uncensored=time[event], right=time[~event])
    curve = stats.ecdf(data).sf
    x = np.concatenate([[0.0], curve.quantiles])
    y = np.concatenate([[1.0], curve.probabilities])
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _concordance(
    time: NDArray[np.float64], event: NDArray[np.bool_], risk: NDArray[np.float64], clusters: Texts
) -> BootstrapEstimate:
    return cluster_bootstrap(
        lambda bags: concordance(time[bags], event[bags], risk[bags]),
        len(time),
        clusters,
        limits=(0, 1),
        resamples=300,
    )


def maps(results: Results, page: Path) -> Section:
    """Links to the pages of slide maps in the folders of runs."""
    title = "Maps"
    found = []
    for run in results.found.finished:
        for path in sorted((run.folder / "maps").glob("**/*.html"))[:MOST_NAMED]:
            relative = os.path.relpath(path.resolve(), page.resolve().parent)
            found.append(tag("a", f"{run.folder.name}: {path.stem}", href=quote(relative)))
    if not found:
        return Section("maps", title, None, "no run's folder holds maps (maps/*.html)")
    return Section("maps", title, bullets(found[:MOST_LINKS]))
