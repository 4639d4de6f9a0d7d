"""Risks and survival curves: risk groups, and scores at each time."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milforge.markup import Markup, join, paragraph, tag
from milforge.report.analysis.measures import SURVIVAL, measures, survival_times, values_of
from milforge.report.analysis.out_of_fold import OutOfFold
from milforge.report.analysis.pooled import PooledRow
from milforge.report.gather import Results
from milforge.report.page.charts import Series, chart
from milforge.report.page.html import Section, interval, number, p_value, table
from milforge.report.predictions import Floats, Predictions
from milforge.statistics import cluster_bootstrap, dynamic_auroc, log_rank, survival_brier

RESAMPLES = 200  # of the band at each time
NAMES = {"c_index": "C (Harrell)", "auc": "mean AUC(t)", "ibs": "integrated Brier"}
VALIDATION, TEST = "median of validation", "median of test"


def survival(results: Results) -> Section:
    """Risk groups with their curves, C, and AUC and Brier score over time."""
    title = "Survival"
    groups = [each for each in results.pooled if _has_risks(each.predictions)]
    if not groups:
        return Section("survival", title, None, "no run predicts risk with times and events")
    known = {(row.group.label, row.measure): row for row in results.pooled_rows}
    names = [each.name for each in measures(groups[0].predictions)]
    rows, figures = [], []
    for each in groups:
        scores = [cell for name in names for cell in _score(known.get((each.group.label, name)))]
        high, rule = risk_groups(each)
        test, p = each.predictions, _log_rank(each, high)
        rows.append(
            [
                each.group.label,
                len(test),
                int(_event(test).sum()),
                *scores,
                rule,
                f"{(~high).sum()}, {high.sum()}",
                (p_value(p), p) if p is not None else "",
            ]
        )
        figures.append(_curves(each, high))
    head = ["group", "bags", "events"]
    head += [cell for name in names for cell in (NAMES[name], "95% interval")]
    head += ["high risk above", "low, high", "log-rank p"]
    timed = [each for each in groups if survival_times(each.predictions)]
    if timed:
        figures += [_over_time(timed), _brier(timed)]
    note = paragraph(
        "Of the pooled test predictions; intervals over patients. High risk is above the median "
        "risk of the validation bags of the fold, so that the cut is not chosen on test; where "
        "there are no such bags, it is the median of the test bags. The log-rank test takes bags "
        "for independent; of patients with several bags, one bag each is taken, the first. AUC(t): "
        "those who died by a time against those who live beyond it; it and the Brier score are "
        "weighted for censoring by the Kaplan-Meier curve of the test bags."
    )
    return Section(
        "survival",
        title,
        join(note, table(head, rows, title), tag("div", *figures, class_="figures")),
    )


def risk_groups(each: OutOfFold) -> tuple[NDArray[np.bool_], str]:
    """`(n,)` whether each test bag is of high risk, and by which cut.

    A bag of several folds is of high risk where at least half of their models say so.
    """
    test = each.predictions
    if not all(len(part.val) for part in each.parts):
        risk = test.columns["risk"]
        return risk > np.median(risk), TEST
    votes: dict[str, list[bool]] = {}
    for part in each.parts:
        above = part.test.columns["risk"] > np.median(part.val.columns["risk"])
        for bag, high in zip(part.test.bag_id.tolist(), above.tolist(), strict=True):
            votes.setdefault(bag, []).append(high)
    return np.array([np.mean(votes[bag]) >= 0.5 for bag in test.bag_id.tolist()]), VALIDATION


def _log_rank(each: OutOfFold, high: NDArray[np.bool_]) -> float | None:
    test = each.predictions
    _, first = np.unique(test.clusters.astype(str), return_index=True)
    return log_rank(test.labels["time"][first], _event(test)[first], high[first])


def _curves(each: OutOfFold, high: NDArray[np.bool_]) -> Markup:
    time, event = each.predictions.labels["time"], _event(each.predictions)
    series = []
    for name, chosen in (("low risk", ~high), ("high risk", high)):
        if chosen.any():
            x, y = _steps(time[chosen], event[chosen])
            said = [
                f"at {t:.4g}: {s:.3f} live, {(time[chosen] >= t).sum()} at risk"
                for t, s in zip(x.tolist(), y.tolist(), strict=True)
            ]
            series.append(Series(f"{name} ({chosen.sum()})", x.tolist(), y.tolist(), labels=said))
    title = f"Kaplan-Meier: {each.group.label}"
    return chart(series, title=title, x="time", y="survival", ylim=(0, 1))


def _over_time(groups: list[OutOfFold]) -> Markup:
    """AUC(t) of all groups, with bars."""
    series = []
    for each in groups:
        test = each.predictions
        times = survival_times(test)
        found = [_area(test, t) for t in times]
        values, low, high = ([one[k] for one in found] for k in range(3))
        said = [
            f"at {t:.4g}: {number(one[0])} {interval(one)}"
            for t, one in zip(times, found, strict=True)
            if np.isfinite(one[0])
        ]
        series.append(Series(each.group.label, times, values, low, high, "both", said))
    ends = (min(s.x[0] for s in series), max(s.x[-1] for s in series))
    chance = Series("chance", ends, (0.5, 0.5), plain=True)
    return chart([*series, chance], title="AUC(t)", x="time", y="AUC(t)", ylim=(0, 1))


def _area(test: Predictions, at: float) -> tuple[float, float, float]:
    """AUC(t) and its interval, which a single patient has not."""
    statistic = partial(_auroc_at, test, at)
    if len(set(test.clusters)) < 2:
        return statistic(np.arange(len(test))), np.nan, np.nan
    found = cluster_bootstrap(
        statistic,
        len(test),
        test.clusters,
        method="percentile",
        limits=(0, 1),
        resamples=RESAMPLES,
    )
    return found.value, found.low, found.high


def _auroc_at(test: Predictions, at: float, bags: NDArray[np.int64]) -> float:
    time, event, risk = test.labels["time"], test.labels["event"], test.columns["risk"]
    return float(dynamic_auroc(time[bags], event[bags], risk[bags], [at])[0])


def _brier(groups: list[OutOfFold]) -> Markup:
    """The Brier score at each time, beside that of one curve for all bags."""
    series, plain = [], None
    for each in groups:
        test = each.predictions
        times = survival_times(test)
        time, event = test.labels["time"], _event(test)
        (measure,) = [one for one in measures(test) if one.column == SURVIVAL]
        found = survival_brier(time, event, values_of(test, measure), times)
        series.append(Series(each.group.label, times, found.tolist(), kind="both"))
        if plain is None:
            curve = stats.ecdf(_censored(time, event)).sf.evaluate(np.array(times))
            alike = survival_brier(time, event, np.tile(curve, (len(time), 1)), times)
            plain = Series("one curve for all", times, alike.tolist(), plain=True)
    shown = [*series, plain] if plain is not None else series
    return chart(shown, title="Brier score over time", x="time", y="Brier score")


def _steps(time: Floats, event: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The corners of the Kaplan-Meier curve, from time 0 on.

    Example:
        >>> x, y = _steps(np.array([1.0, 2, 3]), np.array([True, False, True]))
        >>> x.tolist(), y.round(2).tolist()
        ([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [1.0, 1.0, 0.67, 0.67, 0.67, 0.67, 0.0])
    """
    curve = stats.ecdf(_censored(time, event)).sf
    x = np.concatenate([[0.0], curve.quantiles])
    y = np.concatenate([[1.0], curve.probabilities])
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _censored(time: Floats, event: NDArray[np.bool_]) -> stats.CensoredData:
    return stats.CensoredData(uncensored=time[event], right=time[~event])


def _event(predictions: Predictions) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = predictions.labels["event"] == 1
    return found


def _has_risks(predictions: Predictions) -> bool:
    return {"time", "event"} <= set(predictions.labels) and "risk" in predictions.columns


def _score(row: PooledRow | None) -> list[Any]:
    if row is None:
        return ["", ""]
    return [(number(row.estimate.value), row.estimate.value), interval(row.estimate)]
