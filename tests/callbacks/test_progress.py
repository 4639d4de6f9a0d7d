"""Progress on a terminal, and where there is none."""

import sys
from types import SimpleNamespace

import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from milforge.callbacks import progress
from milforge.callbacks.progress import EpochLines


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
