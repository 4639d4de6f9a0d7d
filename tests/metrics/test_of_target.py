"""A metric of one of several targets."""

import pytest
import torch
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy

from milforge.metrics import build_metrics
from milforge.metrics.of_target import OfTarget


@pytest.mark.filterwarnings("ignore:.*called before the ``update`` method")
@pytest.mark.parametrize(
    "metric", [BinaryF1Score(), MulticlassAccuracy(2, average=None)], ids=["f1", "of each class"]
)
def test_a_part_without_any_label_has_no_value(metric):
    names = ["a/preds", "a/target", "a/known"]
    metrics = build_metrics({"a_metric": OfTarget("a", metric)}, {}, names).clone(prefix="val/")
    fed = dict(
        zip(names, (torch.tensor([0, 1]), torch.tensor([0, 1]), torch.zeros(2)), strict=True)
    )
    fed["a/known"] = fed["a/known"].bool()
    metrics.update(**fed)
    assert metrics.compute()["val/a_metric"].isnan().all()
    metrics.reset()
    metrics.update(**fed | {"a/known": torch.tensor([False, True])})
    value = metrics.compute()["val/a_metric"]
    assert value.tolist() == ([0.0, 1.0] if value.ndim else 1.0)
    metrics.update(**fed)  # of a batch without a label, after one with
    assert not metrics.compute()["val/a_metric"].isnan().any()
    metrics.reset()
    assert metrics.compute()["val/a_metric"].isnan().all()
