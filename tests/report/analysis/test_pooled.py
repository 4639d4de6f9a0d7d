"""Comparisons of a metric that one of both groups does not have."""

import numpy as np
import pytest

from milforge.report.analysis.measures import measures
from milforge.report.analysis.pooled import compare
from milforge.report.predictions import Predictions


def regression(predicted):
    n = len(predicted)
    return Predictions(
        task="Regression",
        class_names=(),
        bag_id=np.array([f"bag {i}" for i in range(n)], object),
        part=np.full(n, "test", object),
        patient=np.full(n, None, object),
        size=np.full(n, 9),
        order=np.arange(n),
        labels={"label": np.arange(n, dtype=float)},
        columns={"prediction": np.asarray(predicted, dtype=float)},
        table={},
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_group_that_predicts_one_number_has_no_correlation_to_compare(turned):
    pair = [regression(np.arange(20) + np.arange(20) % 3), regression(np.ones(20))]
    one, two = reversed(pair) if turned else pair
    found = {each.name: compare(one, two, each) for each in measures(one)}
    assert found["pearson"] is None
    assert found["mae"][1] < 0.01  # what both have is compared
