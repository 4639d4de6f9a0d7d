"""The metric that chooses the epoch."""

import logging
from types import SimpleNamespace

import pytest
import torch

from milforge.api.learning import Learning
from milforge.api.monitor import check_defined, warn_of_few
from milforge.metrics import RMSE
from milforge.training import MILModule
from stated import make_labels, make_task


def learning(**metrics):
    return Learning(MILModule, None, 0.0, metrics)


@pytest.mark.parametrize(
    ("kind", "monitor", "y", "told"),
    [
        ("binary", "val/auroc", [1, 1, 1], "3 bags, all 'yes'"),
        ("binary", "val/auroc", [0], "1 bag, all 'no'"),
        ("multiclass", "val/auroc", [2, 2], "2 bags, all 'c'"),
        ("multilabel", "train/auroc", [[0, 1, 1], [0, 1, 1]], "2 bags"),
        ("regression", "val/r2_0", [[3.0, 1.0]], "1 bag"),
        ("regression", "val/pearson_0", [[3.0, 1.0], [3.0, 2.0]], "2 bags"),
    ],
)
def test_a_metric_that_the_labels_leave_undefined_is_refused(kind, monitor, y, told):
    task = make_task(kind, make_labels(kind))
    with pytest.raises(ValueError, match="is not defined for the labels of the") as refused:
        check_defined(monitor, task, learning(), torch.tensor(y))
    stage = monitor.partition("/")[0]
    assert str(refused.value).startswith(f"monitor={monitor} is not defined for the labels of the")
    assert f"of the {stage} part ({told})" in str(refused.value)
    assert "choose monitor=val/loss, or a split" in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "monitor", "y"),
    [
        ("binary", "val/auroc", [0, 1]),
        ("binary", "val/accuracy", [1, 1]),
        ("binary", "val/loss", [1, 1]),
        ("binary", "val/inst_auroc", [1, 1]),  # of the instances, which are not read yet
        ("multiclass", "val/auroc", [0, 1, 2]),
        ("multilabel", "val/auroc", [[0, 1, 1], [1, 0, 0]]),
        ("regression", "val/mae_1", [[3.0, 1.0]]),
        ("regression", "val/r2_1", [[3.0, 1.0], [4.0, 2.0], [5.0, 3.0]]),
    ],
)
def test_others_are_not(kind, monitor, y):
    task = make_task(kind, make_labels(kind))
    check_defined(monitor, task, learning(), torch.tensor(y))
    check_defined(monitor, task, learning(), None)
    check_defined(monitor, task, learning(), torch.tensor(y)[:0])


def test_a_metric_of_several_values_is_to_be_named_with_one_of_them():
    y = make_labels("regression")
    with pytest.raises(ValueError, match="choose val/mae_0 or val/mae_1"):
        check_defined("val/mae", make_task("regression", y), learning(), y)


def test_what_a_module_of_its_own_feeds_otherwise_is_left_to_it():
    task = make_task("binary", make_labels("binary"))
    check_defined("val/odd", task, learning(odd=RMSE(num_outputs=7)), torch.tensor([1, 1]))


@pytest.mark.parametrize(
    ("monitor", "watched", "bags", "warned"),
    [
        ("val/loss", "val/loss", 19, True),
        ("val/loss", "val/loss", 20, False),
        ("train/loss", "train/loss", 5, False),
        ("val/loss", None, 5, False),  # the last epoch is kept
    ],
)
def test_few_bags_that_choose_the_epoch_are_counted(caplog, monitor, watched, bags, warned):
    trainer = SimpleNamespace(callbacks=[SimpleNamespace(monitor=watched), SimpleNamespace()])
    with caplog.at_level(logging.WARNING):
        warn_of_few(trainer, monitor, bags)
    expected = [f"{bags} validation bags choose the epoch (monitor={monitor})"] if warned else []
    assert [record.message[: len(expected[0])] for record in caplog.records] == expected
