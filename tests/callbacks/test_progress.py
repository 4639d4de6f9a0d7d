"""Progress on a terminal, and where there is none."""

import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from milforge.callbacks import progress
from milforge.callbacks.progress import EpochLines
from milforge.tasks import Binary, Regression


def make_trainer(**metrics):
    metrics = {name.replace("_", "/", 1): torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(callback_metrics=metrics, current_epoch=4, max_epochs=30)


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(progress(), TQDMProgressBar)


def test_anything_else_gets_lines(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert isinstance(progress(), EpochLines)


def test_an_epoch_is_one_plain_line(capsys):
    lines, trainer = EpochLines(), make_trainer(val_loss=0.25, val_auroc=0.75, train_loss=1.0)
    lines.on_train_epoch_start(trainer)
    lines.on_train_epoch_end(trainer)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("epoch   4 of 30")
    assert err.endswith("val/loss 0.2500  val/auroc 0.7500\n")
    assert err.count("\n") == 1
    assert err.isascii()


def test_a_run_that_goes_on_inside_an_epoch_counts_from_there(capsys):
    lines = EpochLines()
    lines.on_train_start(make_trainer())
    lines.on_train_epoch_end(make_trainer())
    assert "epoch   4 of 30    0.0 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "monitor", "shown"),
    [
        (Regression(), "val/r2", "val/loss 0.5000  val/r2 0.2500  val/mae 3.0000"),
        (Binary(), "val/loss", "val/loss 0.5000  val/auroc 0.7500"),
    ],
)
def test_a_line_shows_what_chooses_the_epoch_and_the_metric_of_the_task(
    capsys, task, monitor, shown
):
    trainer = make_trainer(val_r2=0.25, val_mae=3.0, val_loss=0.5, val_auroc=0.75)
    trainer.lightning_module = SimpleNamespace(task=task, monitor=monitor)
    EpochLines().on_train_epoch_end(trainer)
    assert capsys.readouterr().err.endswith(f" s  {shown}\n")


def test_of_several_outputs_a_line_shows_the_first(capsys):
    trainer = make_trainer(val_mae_0=3.0, val_mae_1=4.0)
    trainer.lightning_module = SimpleNamespace(task=Regression(), monitor="val/loss")
    EpochLines().on_train_epoch_end(trainer)
    assert capsys.readouterr().err.endswith(" s  val/mae_0 3.0000\n")


def test_a_run_without_validation_has_lines_too(capsys):
    EpochLines().on_train_epoch_end(make_trainer())
    assert "epoch   4 of 30" in capsys.readouterr().err


def test_test_and_prediction_are_announced(capsys):
    EpochLines().on_test_start(make_trainer())
    EpochLines().on_predict_start(make_trainer())
    assert capsys.readouterr().err == "testing\npredicting\n"


def test_one_process_of_many_speaks(capsys):
    lines = EpochLines()
    lines.disable()
    lines.on_test_start(make_trainer())
    assert capsys.readouterr().err == ""
    lines.enable()
    lines.on_test_start(make_trainer())
    assert capsys.readouterr().err == "testing\n"
