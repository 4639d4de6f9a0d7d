"""Intervals of the calibration section are over patients."""

import numpy as np
import pytest
from scipy import special

from milforge.report.page.calibration import numbers, reliability, targets
from milforge.report.page.html import interval
from milforge.report.predictions import Predictions
from milforge.statistics import clustered_proportion, recalibration

SLOPE, LARGE = 6, 9  # of the cells


@pytest.mark.parametrize("task", ["Binary", "Multiclass", "Multilabel"])
def test_slides_of_a_patient_are_not_taken_for_patients(task):
    generator = np.random.default_rng(0)
    logit, columns = np.repeat(generator.normal(size=30), 4), 3 if task == "Multiclass" else 2
    p = special.expit(logit)
    y = (np.repeat(generator.random(30), 4) < p).astype(float)
    patients = np.repeat(np.array([f"p{i}" for i in range(30)], object), 4)
    shown = np.stack([1 - p, p, *[np.zeros(120)] * (columns - 2)], 1)
    labels = {"label_0": 1 - y, "label_1": y} if task == "Multilabel" else {"label": y}
    found = targets(
        Predictions(
            task=task,
            class_names=tuple("abc"[:columns]),
            bag_id=np.array([f"bag {i}" for i in range(120)], object),
            part=np.full(120, "test", object),
            patient=patients,
            size=np.full(120, 9),
            order=np.arange(120),
            labels=labels,
            columns={f"probability_{c}": shown[:, c] for c in range(columns)},
            table={},
        )
    )
    for each in found:
        expected = recalibration(each.y, each.p, patients)
        cells = numbers(each)
        assert cells[SLOPE] == interval(expected.slope, 2)
        assert cells[LARGE] == interval(expected.in_the_large, 2)
        assert cells[SLOPE] != interval(recalibration(each.y, each.p).slope, 2)
        first = each.p <= np.sort(each.p)[11]
        low = clustered_proportion(each.y[first], patients[first]).low
        assert reliability("", each).low[0] == pytest.approx(low)
