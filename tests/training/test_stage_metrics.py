"""The metrics of a stage, over batches that say little by themselves."""

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from milforge.metrics import bag_metrics
from milforge.training.stage_metrics import StageMetrics

SCORES = torch.tensor([0.9, 0.2, 0.95, 0.1, 0.4])
Y_INST = torch.tensor([0, 1, 1, 0, 0])


def update(metrics, y, y_inst):
    metrics.update(
        torch.tensor([0.5]),
        torch.tensor([0.5]),
        torch.tensor([y]),
        scores=SCORES,
        y_inst=y_inst,
        sizes=torch.tensor([len(SCORES)]),
    )


@pytest.mark.parametrize("first", ["negative", "positive"])
def test_localisation_does_not_depend_on_what_was_measured_first(first):
    """A negative bag leaves the states of all metrics equal, but they are not the same metric."""
    metrics = StageMetrics("val", bag_metrics("binary", 2), "binary")
    negative = first == "negative"
    update(metrics, 0 if negative else 1, torch.zeros_like(Y_INST) if negative else Y_INST)
    metrics.compute()
    update(metrics, 1, Y_INST)
    values = metrics.compute()
    auroc, precision = roc_auc_score(Y_INST, SCORES), average_precision_score(Y_INST, SCORES)
    assert auroc != pytest.approx(precision)
    assert values["val/inst_auroc"].item() == pytest.approx(auroc)
    assert values["val/inst_ap"].item() == pytest.approx(precision)


def test_a_step_without_bags_counts_nothing():
    metrics = StageMetrics("train", bag_metrics("binary", 2), "binary")
    nothing = torch.zeros(0)
    for _ in range(2):
        metrics.update(nothing, nothing, nothing.long(), scores=nothing, sizes=nothing.long())
    update(metrics, 1, Y_INST)
    assert metrics.compute()["train/loss"].item() == 0.5
