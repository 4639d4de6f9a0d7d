"""What is chosen on the validation part of each fold and applied to its test part.

Where bags were held back to calibrate (`split.calibration_share`), these stand for the validation
part everywhere in this file.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from milforge.report.analysis.out_of_fold import OutOfFold, Part
from milforge.report.predictions import Predictions, averaged
from milforge.statistics import (
    Estimate,
    OperatingPoint,
    class_thresholds,
    clustered_proportion,
    conformal_sets,
    fit_temperature,
    operating_point,
)

EDGE = 1e-7  # float32 rounds what is nearer to 0 or 1


class Scaled(NamedTuple):
    """Test bags after the temperature of the validation bags of their fold.

    Attributes: the averaged predictions, and the temperature of each fold.
    """

    predictions: Predictions
    temperatures: list[float]


class Applied(NamedTuple):
    """What comes of thresholds on the test bags of all folds.

    Attributes: the shares, and the threshold of each fold.
    """

    point: OperatingPoint
    thresholds: list[float]


class Sets(NamedTuple):
    """Conformal sets of the test bags of all folds.

    Attributes:
        coverage: of all bags.
        by_class: of the bags of each class; None where there are none.
        size: mean number of classes in a set.
        single: the share of sets of one class.
        full: folds with too few validation patients to leave any class out.
    """

    coverage: Estimate
    by_class: list[Estimate | None]
    size: float
    single: Estimate
    full: int


def is_classification(predictions: Predictions) -> bool:
    """Whether each bag has one of several classes."""
    classes = len(predictions.class_names)
    return predictions.has("probability") and predictions.y.ndim == 1 and classes > 1


def is_multilabel(predictions: Predictions) -> bool:
    """Whether each bag has several labels of 0 and 1, or some of them, with a probability each."""
    y = predictions.y
    if not predictions.has("probability") or y.ndim != 2:
        return False
    fits = y.shape == predictions.predicted("probability").shape
    return fits and bool((np.isin(y, (0, 1)) | np.isnan(y)).all())


def temperature_scaled(each: OutOfFold) -> Scaled | None:
    """The pooled predictions after temperature; None where a fold has no validation bags."""
    scaled, temperatures = [], []
    for part in each.parts:
        if not len(part.val):
            return None
        logits, y = _logits(part.val), part.val.y
        if y.ndim == 2:
            logits, y = logits[~np.isnan(y)], y[~np.isnan(y)]
        temperature = fit_temperature(logits, y)
        scaled.append(divided(part.test, temperature))
        temperatures.append(temperature)
    return Scaled(averaged(scaled)[0], temperatures)


def at_threshold(
    each: OutOfFold, choose: Callable[[NDArray[np.float64], NDArray[np.float64]], float]
) -> Applied | None:
    """Thresholds that `choose` takes from labels and probabilities of validation bags.

    Folds whose validation part lacks a class are left out; None where all do.
    """
    called, thresholds, tests = [], [], []
    for part in each.parts:
        if not len(part.val) or np.ptp(part.val.y) == 0:
            continue
        threshold = choose(part.val.y, part.val.columns["probability_1"])
        called.append(part.test.columns["probability_1"] >= threshold)
        thresholds.append(threshold)
        tests.append(part.test)
    if not tests:
        return None
    y = np.concatenate([test.y for test in tests])
    clusters = np.concatenate([test.clusters for test in tests])
    return Applied(operating_point(y, np.concatenate(called), 0.5, clusters), thresholds)


def conformal(each: OutOfFold, alpha: float = 0.1) -> Sets | None:
    """Sets of classes that miss the true one of a patient with probability alpha at most.

    Folds without validation bags are left out; None where all are.
    """
    sets, tests, full = [], [], 0
    for part in each.parts:
        if not len(part.val):
            continue
        found = _sets(part, alpha)
        full += bool(found.all())
        sets.append(found)
        tests.append(part.test)
    if not tests:
        return None
    inside = np.concatenate(sets)
    y = np.concatenate([test.y for test in tests]).astype(int)
    clusters = np.concatenate([test.clusters for test in tests])
    hits = np.take_along_axis(inside, y[:, None], 1)[:, 0]
    sizes = inside.sum(1)
    return Sets(
        clustered_proportion(hits, clusters),
        [
            clustered_proportion(hits[y == c], clusters[y == c]) if (y == c).any() else None
            for c in range(inside.shape[1])
        ],
        float(sizes.mean()),
        clustered_proportion(sizes == 1, clusters),
        full,
    )


def _sets(part: Part, alpha: float) -> NDArray[np.bool_]:
    val = part.val
    thresholds = class_thresholds(
        val.predicted("probability"), val.y.astype(int), val.clusters, alpha=alpha
    )
    return conformal_sets(part.test.predicted("probability"), thresholds)


def _logits(predictions: Predictions) -> NDArray[np.float64]:
    """`(n,)` of two classes, else `(n, C)`: averaged probabilities have no other logits."""
    p = np.clip(predictions.predicted("probability"), EDGE, 1 - EDGE)
    if is_multilabel(predictions):
        return np.asarray(special.logit(p))
    if p.shape[1] == 2:
        logits: NDArray[np.float64] = special.logit(p[:, 1])
        return logits
    return np.log(p)


def divided(predictions: Predictions, temperature: float) -> Predictions:
    """The predictions with the probabilities of their logits divided by a temperature."""
    logits = _logits(predictions) / temperature
    if is_multilabel(predictions):
        p = special.expit(logits)
    elif logits.ndim == 1:
        p = special.expit(np.stack([-logits, logits], 1))
    else:
        p = special.softmax(logits, 1)
    changed = {f"probability_{c}": p[:, c] for c in range(p.shape[1])}
    return replace(predictions, columns={**predictions.columns, **changed})
