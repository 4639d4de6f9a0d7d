"""The metrics of a task, of any bags with labels and predictions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milforge.report.predictions import Predictions
from milforge.statistics import concordance, dynamic_auroc, mean_over_time, survival_brier
from milforge.statistics.auroc import auroc_of
from milforge.statistics.curves import average_precision_of

GRADE = "grade"  # numbered from 0 for the lowest
SURVIVAL = "survival_"  # and a time: the probability of living beyond it


@dataclass(frozen=True)
class Measure:
    """A metric of predictions.

    Attributes:
        name: as the metrics of a run are named, without the part.
        of: takes labels and what is predicted, of some bags; NaN where there is no value.
        column: of what is predicted.
        limits: of the metric.
        ranks: whether it sees nothing but the order of the bags.
        hits: of a share of the bags: which these are, `(n,)` bool.
    """

    name: str
    of: Callable[[NDArray[Any], NDArray[Any]], float]
    column: str
    limits: tuple[float, float]
    ranks: bool = False
    hits: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]] | None = None


def measures(predictions: Predictions) -> list[Measure]:
    """The metrics of a task, the main one first; none for a task that is not known."""
    several = predictions.y.ndim == 2
    if predictions.task == "Ordinal" and predictions.has("probability"):
        return [
            Measure("kappa", quadratic_kappa, GRADE, (-1, 1)),
            Measure("mae", lambda y, g: float(np.abs(y - g).mean()), GRADE, (0, np.inf)),
            _share("accuracy", lambda y, g: g == y, GRADE),
        ]
    if predictions.has("probability"):
        classes = len(predictions.class_names)
        if not several and classes == 2:
            return [
                Measure("auroc", _if_both(auroc_of), "probability", (0, 1), ranks=True),
                Measure("ap", _if_both(average_precision_of), "probability", (0, 1), ranks=True),
                _share("accuracy", lambda y, p: (p > 0.5) == y, "probability"),
                Measure("brier", lambda y, p: float(np.mean((p - y) ** 2)), "probability", (0, 1)),
            ]
        found = [Measure("auroc", _macro(auroc_of), "probability", (0, 1), ranks=True)]
        if not several:
            found.append(_share("accuracy", lambda y, p: p.argmax(1) == y, "probability"))
        return [*found, Measure("brier", _brier, "probability", (0, 2))]
    if predictions.has("risk") and {"time", "event"} <= set(predictions.labels):
        return _of_times(predictions)
    if predictions.has("prediction") and not several:
        return [
            Measure("mae", lambda y, p: float(np.abs(y - p).mean()), "prediction", (0, np.inf)),
            Measure(
                "rmse",
                lambda y, p: float(np.sqrt(np.mean((y - p) ** 2))),
                "prediction",
                (0, np.inf),
            ),
            Measure("r2", _r2, "prediction", (-np.inf, 1)),
            Measure("pearson", _pearson, "prediction", (-1, 1)),
        ]
    return []


def survival_times(predictions: Predictions) -> list[float]:
    """The times of the columns `survival_<t>`, rising; none where there are no such columns.

    They are rounded to float32 as the times of the bags are, or an event at 12.3 would come after
    the time 12.3.
    """
    names = [name for name in predictions.columns if name.startswith(SURVIVAL)]
    return sorted(float(np.float32(name.removeprefix(SURVIVAL))) for name in names)


def values_of(predictions: Predictions, measure: Measure) -> NDArray[np.float64]:
    """What a metric takes: of two classes the probability of the positive one."""
    if measure.column == SURVIVAL:
        names = [f"{SURVIVAL}{time:g}" for time in survival_times(predictions)]
        return np.stack([predictions.columns[name] for name in names], 1)
    if measure.column == GRADE:
        # As the task does: the number of grades above which a bag is with more than one half.
        p = predictions.predicted("probability")
        return np.asarray((p[:, ::-1].cumsum(1)[:, ::-1][:, 1:] > 0.5).sum(1), np.float64)
    values = predictions.predicted(measure.column)
    two = measure.column == "probability" and len(predictions.class_names) == 2
    return values[:, 1] if two and predictions.y.ndim == 1 else values


def _of_times(predictions: Predictions) -> list[Measure]:
    """Of risks; and where there are curves, of them and of the risks at their times."""
    names, times = list(predictions.labels), survival_times(predictions)
    t, e = names.index("time"), names.index("event")
    found = [
        Measure("c_index", lambda y, p: concordance(y[:, t], y[:, e], p), "risk", (0, 1), True)
    ]
    if times:
        found += [
            Measure(
                "auc",
                lambda y, p: mean_over_time(dynamic_auroc(y[:, t], y[:, e], p, times), times),
                "risk",
                (0, 1),
                True,
            ),
            Measure(
                "ibs",
                lambda y, p: mean_over_time(survival_brier(y[:, t], y[:, e], p, times), times),
                SURVIVAL,
                (0, np.inf),
            ),
        ]
    return found


def quadratic_kappa(y: NDArray[Any], grade: NDArray[Any]) -> float:
    """Cohen's kappa with quadratic weights (1968), 1 - sum (y_i - g_i)^2 / E; NaN where E is 0.

    E is the mean over all pairs i, j of (y_i - g_j)^2, times n.

    Example:
        >>> quadratic_kappa(np.array([0, 1, 2]), np.array([0, 1, 1]))
        0.6666666666666667
    """
    chance = y.var() + grade.var() + (y.mean() - grade.mean()) ** 2
    return float(1 - np.mean((y - grade) ** 2) / chance) if chance > 0 else float("nan")


def _share(
    name: str, hits: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]], column: str
) -> Measure:
    return Measure(name, lambda y, p: float(np.mean(hits(y, p))), column, (0, 1), hits=hits)


def _if_both(
    of: Callable[[NDArray[Any], NDArray[Any]], float],
) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    def value(y: NDArray[Any], p: NDArray[Any]) -> float:
        positive = y == 1
        return of(positive, p) if 0 < np.count_nonzero(positive) < len(y) else float("nan")

    return value


def _macro(
    of: Callable[[NDArray[Any], NDArray[Any]], float],
) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """The mean over classes, each against the rest; those without bags of both kinds left out."""
    one = _if_both(of)

    def value(y: NDArray[Any], p: NDArray[Any]) -> float:
        each = y if y.ndim == 2 else y[:, None] == np.arange(p.shape[1])
        found = [one(*pair) for pair in known_pairs(each, p)]
        known = [number for number in found if np.isfinite(number)]
        return float(np.mean(known)) if known else float("nan")

    return value


def known_pairs(
    y: NDArray[Any], p: NDArray[np.float64]
) -> list[tuple[NDArray[Any], NDArray[np.float64]]]:
    """Each label and its probability, of the bags of which it is known.

    Args:
        y: `(n, C)`, NaN where unknown.
        p: `(n, C)`.
    """
    known = ~np.isnan(y.astype(np.float64))
    return [(y[known[:, c], c], p[known[:, c], c]) for c in range(p.shape[1])]


def _brier(y: NDArray[Any], p: NDArray[Any]) -> float:
    if y.ndim == 2:
        found = [np.mean((q - label) ** 2) for label, q in known_pairs(y, p) if len(label)]
        return float(np.mean(found)) if found else float("nan")
    return float(((p - (y[:, None] == np.arange(p.shape[1]))) ** 2).sum(1).mean())


def _r2(y: NDArray[Any], p: NDArray[Any]) -> float:
    spread = ((y - y.mean()) ** 2).sum()
    return float(1 - ((y - p) ** 2).sum() / spread) if spread > 0 else float("nan")


def _pearson(y: NDArray[Any], p: NDArray[Any]) -> float:
    if len(y) < 2 or np.ptp(y) == 0 or np.ptp(p) == 0:
        return float("nan")
    return float(stats.pearsonr(y, p).statistic)
