"""Decision curves: each beside the line of its own share of positive bags."""

from types import SimpleNamespace

import numpy as np

from milforge.report.page.decisions import decision_curves
from milforge.report.predictions import Predictions


def of(positives, target="", label="model=one"):
    """40 bags, of which so many are positive."""
    y = (np.arange(40) < positives).astype(float)
    p = np.where(y, 0.8, 0.3)
    predictions = Predictions(
        task="Binary",
        class_names=("no", "yes"),
        bag_id=np.array([f"bag {i}" for i in range(40)], object),
        part=np.full(40, "test", object),
        patient=np.full(40, None, object),
        size=np.full(40, 9),
        order=np.arange(40),
        labels={"label": y},
        columns={"probability_0": 1 - p, "probability_1": p},
        table={},
    )
    group = SimpleNamespace(label=label)
    return SimpleNamespace(target=target, group=group, predictions=predictions)


def page(*pooled):
    return str(decision_curves(SimpleNamespace(pooled=list(pooled))).body)


def test_each_target_has_a_figure_of_its_own():
    both = page(of(4, "rare"), of(30, "common"))
    assert both.count("<figure") == 2
    for target, positives in (("rare", 4), ("common", 30)):
        assert f"test predictions of {target}<" in both
        alone = page(of(positives, target))
        start = alone.index("<figure")
        assert alone[start : alone.index("</figure>")] in both


def test_groups_of_other_bags_have_a_line_for_each_share_of_positives():
    assert page(of(10), of(10, label="model=two")).count(">treat all<") == 1
    body = page(of(10), of(30, label="model=two"))
    assert ">treat all, 25.0% positive<" in body
    assert ">treat all, 75.0% positive<" in body
