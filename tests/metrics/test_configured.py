"""What a config adds to the metrics of a task, and how it is named and compared."""

import pytest
import torch
import torchmetrics
from torch import Tensor
from torchmetrics import ClasswiseWrapper, MeanMetric, Metric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryRecall, MulticlassRecall
from torchmetrics.regression import MeanSquaredError, PearsonCorrCoef

from milforge.metrics import (
    MAE,
    CalibrationError,
    LocalisationAUROC,
    MacroAUROC,
    MacroAveragePrecision,
    build_metrics,
    direction_of,
    higher_is_better,
    missing_options,
    named_values,
)
from milforge.tasks import Binary

INPUTS = ["preds", "target"]


class OfRisks(Metric):
    """One that wants what no classification feeds; with what it can do without."""

    def update(self, risk: Tensor, time: Tensor, target: Tensor, event: Tensor | None = None):
        pass

    def compute(self):
        return torch.zeros(())


def own():
    return {
        "auroc": MacroAUROC("binary"),
        "accuracy": BinaryAccuracy(),
        "ap": MacroAveragePrecision("binary"),
    }


def test_configured_metrics_join_those_of_the_task():
    recall = BinaryRecall()
    metrics = build_metrics(own(), {"recall": recall, "auroc": None}, INPUTS)
    assert set(metrics) == {"accuracy", "ap", "recall"}
    preds, target = torch.tensor([0.2, 0.7, 0.6, 0.1]), torch.tensor([0, 1, 0, 1])
    metrics.update(preds=preds, target=target, risk=preds)
    assert metrics.compute()["recall"].item() == 0.5


def test_a_configured_metric_stands_in_for_that_of_the_task():
    metrics = build_metrics(own(), {"accuracy": BinaryAccuracy(threshold=0.9)}, INPUTS)
    metrics.update(preds=torch.tensor([0.8]), target=torch.tensor([0]))
    assert metrics.compute()["accuracy"].item() == 1.0


def test_nothing_configured_is_what_the_task_has():
    assert set(build_metrics(own(), {}, INPUTS)) == set(own())


def test_only_what_is_kept_alike_is_shared():
    """Groups are given: states that are equal by chance must not be taken for one."""
    more = {
        "ece": CalibrationError("binary"),
        "each": MacroAUROC("binary", average=None),
        "three": MacroAUROC("multilabel", 3),
        "recall": BinaryRecall(),
    }
    groups = build_metrics(own(), more, INPUTS).compute_groups
    assert sorted(map(sorted, groups.values())) == [
        ["accuracy"],
        ["ap", "auroc", "each", "ece"],
        ["recall"],
        ["three"],
    ]


@pytest.mark.parametrize(
    "metric", [MeanSquaredError(), MAE(), ClasswiseWrapper(MulticlassRecall(2))]
)
def test_what_can_be_fed_is_taken(metric):
    assert "more" in build_metrics(own(), {"more": metric}, INPUTS)


@pytest.mark.parametrize(
    ("metric", "needs"),
    [(OfRisks(), "risk, time"), (MeanMetric(), "value"), (LocalisationAUROC(), "scores, y_inst")],
)
def test_what_cannot_be_fed_is_refused(metric, needs):
    message = rf"metrics\.more .*preds, target.*got {type(metric).__name__}, which needs {needs}"
    with pytest.raises(ValueError, match=message):
        build_metrics(own(), {"more": metric}, INPUTS)


def test_what_is_not_there_cannot_be_taken_away():
    message = r"metrics\.aurocc=null, got 'aurocc': it has auroc, accuracy, ap"
    with pytest.raises(ValueError, match=message):
        build_metrics(own(), {"aurocc": None}, INPUTS)


def test_wrong_shapes_get_the_error_of_our_own():
    with pytest.raises(ValueError, match="for a binary task"):
        build_metrics(own(), {}, INPUTS).update(preds=torch.rand(3, 2), target=torch.zeros(3))


def test_names_of_single_values():
    values = {
        "val/f1": torch.tensor(0.5),
        "val/recall": torch.tensor([0.1, 0.2, 0.3]),
        "val/auroc_per_class": torch.tensor([0.9]),
        "val/mae": torch.tensor([1.0, 2.0]),
    }
    named = named_values(values, ("a", "b", "c"))
    assert {name: round(float(value), 6) for name, value in named.items()} == {
        "val/f1": 0.5,
        "val/recall_a": 0.1,
        "val/recall_b": 0.2,
        "val/recall_c": 0.3,
        "val/auroc_per_class": 0.9,
        "val/mae_0": 1.0,
        "val/mae_1": 2.0,
    }
    assert all(value.ndim == 0 for value in named.values())


@pytest.mark.parametrize(
    ("value", "got"), [(torch.zeros(2, 2), r"\(2, 2\)"), ((torch.zeros(()),), "tuple")]
)
def test_values_that_cannot_be_logged_are_refused(value, got):
    with pytest.raises(ValueError, match=f"metric val/roc to give one value.*got {got}"):
        named_values({"val/roc": value}, ["a", "b"])


def test_values_of_a_wrapper_have_the_names_it_gives():
    inner = ClasswiseWrapper(MulticlassRecall(2, average=None), labels=["a", "b"])
    metrics = build_metrics({}, {"recall": inner}, INPUTS).clone(prefix="val/")
    metrics.update(preds=torch.tensor([[0.9, 0.1]]), target=torch.tensor([0]))
    named = named_values(metrics.compute(), ["a", "b"])
    assert set(named) == {"val/multiclassrecall_a", "val/multiclassrecall_b"}


def test_directions():
    assert higher_is_better(BinaryRecall()) is True
    assert higher_is_better(MeanSquaredError) is False
    for silent in (MeanMetric(), OfRisks(), torchmetrics.Accuracy):
        with pytest.raises(ValueError, match="set monitor_mode=min or monitor_mode=max"):
            higher_is_better(silent)
    with pytest.raises(ValueError, match="expected PearsonCorrCoef to say whether"):
        higher_is_better(PearsonCorrCoef())


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val/loss", "min"),
        ("train/auroc", "max"),
        ("auroc", "max"),
        ("val/ece", "min"),
        ("val/ece_per_class_a_b", "max"),  # the longest name that fits
        ("val/ece_per_class_with/slash", "max"),
    ],
)
def test_directions_before_there_are_data(name, direction):
    classes = {**Binary.metric_types, "ece_per_class": MacroAUROC}
    assert direction_of(name, classes) == direction


def test_a_direction_that_is_not_known():
    classes = {"auroc": MacroAUROC, "pearson": PearsonCorrCoef}
    with pytest.raises(ValueError, match=r"loss, auroc, pearson, got 'val/aurok': did .*'auroc'"):
        direction_of("val/aurok", classes)
    with pytest.raises(ValueError, match=r"got 'val/x'$"):
        direction_of("val/x", classes)
    with pytest.raises(ValueError, match="monitor_mode="):
        direction_of("val/pearson", classes)


@pytest.mark.parametrize(
    ("target", "given", "expected"),
    [
        (MacroAUROC, ["average"], {"task": "multilabel", "num_classes": 3}),
        (MacroAUROC, ["task", "num_classes"], {}),
        (torchmetrics.Accuracy, ["task"], {"num_classes": 3, "num_labels": 3}),
        (torchmetrics.classification.MultilabelAccuracy, [], {"num_labels": 3}),
        (BinaryRecall, [], {}),
    ],
)
def test_options_that_the_config_leaves_to_the_task(target, given, expected):
    options = {"task": "multilabel", "num_classes": 3, "num_labels": 3}
    assert missing_options(target, given, options) == expected


def test_it_is_a_collection_of_torchmetrics():
    assert isinstance(build_metrics(own(), {}, INPUTS), MetricCollection)
