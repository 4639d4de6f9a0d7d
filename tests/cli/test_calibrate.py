"""Calibrating a trained run, and what predicts with it then."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import special

import milforge
from milforge.statistics import class_thresholds, fit_temperature
from milforge.tasks import Binary, Multiclass
from milforge.tasks.classes.calibration import Calibration


def rows(path, part=None):
    found = pq.read_table(path / "predictions" / "bags.parquet").to_pylist()
    return [row for row in found if part in (None, row["part"])]


def test_predictions_after_calibration(trained, here, tmp_path):
    run = tmp_path / "logs/train/runs/one"
    shutil.copytree(trained.run(), run)
    outcome = here("calibrate", f"ckpt_path={run}", "alpha=0.3")
    assert outcome.returncode == 0, outcome.stderr
    assert "the validation part chose the epoch too (val/loss)" in outcome.stdout
    val = rows(run, "val")
    logits, labels = (np.array([row[key] for row in val]) for key in ("logit_0", "label"))
    temperature = fit_temperature(logits, labels)
    assert f"temperature  {temperature:.4g}" in outcome.stdout
    path = run / "checkpoints" / "calibrated.ckpt"
    stored = torch.load(path, weights_only=True)
    p = special.expit(logits / temperature)
    thresholds = class_thresholds(np.stack([1 - p, p], 1), labels, alpha=0.3)
    assert stored["milforge"]["task"]["calibration"] == {
        "temperature": pytest.approx(temperature),
        "thresholds": pytest.approx(thresholds.tolist()),
        "alpha": 0.3,
        "part": "val",
    }
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert "calibration" not in best["milforge"]["task"]
    for name, weights in best["state_dict"].items():
        assert torch.equal(stored["state_dict"][name], weights)

    outcome = here("evaluate", f"ckpt_path={path}", "logger=csv", "callbacks.figures=null")
    assert outcome.returncode == 0, outcome.stderr
    before = {row["bag_id"]: row for row in rows(run, "test")}
    after = rows(outcome.run("evaluate"))
    assert json.loads((outcome.run("evaluate") / "summary.json").read_text())["calibrated"] is True
    assert len(after) == len(before)
    for row in after:
        assert row["logit_0"] == pytest.approx(before[row["bag_id"]]["logit_0"] / temperature, 1e-4)
        assert row["probability_1"] == pytest.approx(special.expit(row["logit_0"]), abs=1e-6)
        for c in range(2):
            assert row[f"in_set_{c}"] == (1 - row[f"probability_{c}"] <= thresholds[c])
    model = milforge.load(path)
    assert model.task.calibration.temperature == pytest.approx(temperature)


def test_what_cannot_be_calibrated(trained, here, tmp_path):
    run = tmp_path / "one"
    shutil.copytree(trained.run(), run)
    best = run / "checkpoints" / "best.ckpt"

    def error(*arguments):
        return here("calibrate", *arguments).failure()

    assert "needs a run: ckpt_path=RUN" in error()
    assert "no key 'ckpt_pth'; did you mean 'ckpt_path'?" in error("ckpt_pth=a")
    assert "expected a number for alpha" in error(f"ckpt_path={best}", "alpha=x")
    assert "expected alpha between 0 and 1" in error(f"ckpt_path={best}", "alpha=1")
    last = run / "checkpoints" / "last.ckpt"
    assert "not by last.ckpt" in error(f"ckpt_path={last}")
    assert here("calibrate", f"ckpt_path={best}").returncode == 0
    assert "is calibrated already" in error(f"ckpt_path={best.with_name('calibrated.ckpt')}")
    table = pq.read_table(run / "predictions" / "bags.parquet")
    test = table.filter([part == "test" for part in table["part"].to_pylist()])
    pq.write_table(test, run / "predictions" / "bags.parquet")
    assert "no labelled validation bags" in error(f"ckpt_path={best}")
    one = table.filter([label == 1 for label in table["label"].to_pylist()])
    pq.write_table(one, run / "predictions" / "bags.parquet")
    assert "are of one class" in error(f"ckpt_path={best}")
    shutil.rmtree(run / "predictions")
    assert "lies in no run's folder" in error(f"ckpt_path={best}")
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


def test_a_calibrated_task_comes_back_from_its_state():
    task = Multiclass(class_names=["a", "b", "c"])
    task._settle(task.class_names)
    task.calibration = Calibration(2.0, (0.5, 0.6, float("inf")), 0.1, "val")
    again = Multiclass().from_state(task.state())
    assert again.calibration == task.calibration
    logits = torch.tensor([[4.0, 0.0, -4.0]])
    columns = again.columns(logits)
    torch.testing.assert_close(columns["logits"], logits / 2)
    torch.testing.assert_close(columns["probability"], (logits / 2).double().softmax(1))
    assert columns["in_set"].tolist() == [[True, False, True]]


def test_an_ensemble_averages_calibrated_members_and_promises_no_sets():
    members = []
    for temperature in (1.0, 4.0):
        task = Binary(class_names=["a", "b"])
        task._settle(task.class_names)
        task.calibration = Calibration(temperature, (0.5, 0.5), 0.1, "val")
        members.append(task.columns(torch.tensor([[2.0]])))
    logits, columns = task.average(members)
    mean = (special.expit(2.0) + special.expit(0.5)) / 2
    assert columns["probability"][0, 1] == pytest.approx(mean)
    assert torch.sigmoid(logits)[0, 0] == pytest.approx(mean)
    assert "in_set" not in columns


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"temperature": 1.0}, "expected a calibration with temperature"),
        ({"temperature": "x", "thresholds": None, "alpha": 0.1, "part": "val"}, "of numbers"),
        ({"temperature": 0.0, "thresholds": None, "alpha": 0.1, "part": "val"}, "above 0"),
        ({"temperature": 1.0, "thresholds": [0.1], "alpha": 0.1, "part": "val"}, "of 2 classes"),
        ({"temperature": 1.0, "thresholds": [0.1, None], "alpha": 0.1, "part": "v"}, "of numbers"),
    ],
)
def test_odd_calibrations_are_refused(state, message):
    with pytest.raises(ValueError, match=message):
        Calibration.from_state(state, 2)
