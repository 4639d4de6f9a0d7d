"""A tracker that fails or hangs is left alone, and training does not wait for one that is slow."""

import logging
import os
import pickle
import threading

import pytest
from lightning.pytorch.loggers import CSVLogger

from milforge.trackers import patient as module
from milforge.trackers.patient import Patient, guard, wait_for


class Kept:
    """Keeps what it is told, and cannot take None."""

    def __init__(self, folder):
        self.told = []

    def log_metrics(self, metrics, step):
        self.told.append((dict(metrics), step))

    def finalize(self, status):
        self.told.append(status)


class Tracker:
    """Keeps what it is told; `log_metrics` waits for an event where there is one."""

    def __init__(self, gate=None, error=None):
        self.gate, self.error, self.told = gate, error, []

    def log_metrics(self, metrics, step):
        if self.gate is not None:
            self.gate.wait()
        if self.error is not None:
            raise self.error
        self.told.append((metrics, step))

    def finalize(self, status):
        self.told.append(status)


def test_what_is_logged_arrives_in_order():
    tracker = Tracker()
    patient = Patient("mine", lambda: tracker)
    patient.log_metrics({"a": 1.0}, 3)
    patient.log_table("t", ["a"], [[1]])  # it has no tables
    patient.finalize("success")
    assert tracker.told == [({"a": 1.0}, 3), "success"]


@pytest.mark.parametrize(
    "error", [OSError("the server is gone\nmore"), SystemExit("the server is gone")]
)
def test_one_that_fails_is_warned_of_once(caplog, error):
    tracker = Tracker(error=error)
    patient = Patient("mine", lambda: tracker)
    for _ in range(3):
        patient.log_metrics({"a": 1.0})
    patient.finalize("success")
    assert [record.getMessage() for record in caplog.records] == [
        "logger.mine is left out from here on: the server is gone"
    ]
    assert tracker.told == []


def test_training_does_not_wait_for_one_that_is_slow():
    gate = threading.Event()
    tracker = Tracker(gate=gate)
    patient = Patient("mine", lambda: tracker)
    for step in range(3):
        patient.log_metrics({"a": 1.0}, step)
    assert tracker.told == []
    gate.set()
    patient.finalize("success")
    assert [each[1] for each in tracker.told[:3]] == [0, 1, 2]


def test_one_that_hangs_is_left_out_and_not_waited_for(caplog):
    gate = threading.Event()
    tracker = Tracker(gate=gate)
    patient = Patient("mine", lambda: tracker, seconds=0.05)
    patient.log_metrics({"a": 1.0})
    gate.wait(0.2)
    patient.log_metrics({"a": 2.0})
    (record,) = caplog.records
    assert record.getMessage().endswith("no answer within 0.05 s")
    gate.set()
    patient.finalize("success")
    assert "success" not in tracker.told


def test_one_that_hangs_at_the_end_is_not_waited_for(caplog):
    gate = threading.Event()
    patient = Patient("mine", lambda: Tracker(gate=gate), seconds=0.05)
    patient.log_metrics({"a": 1.0})
    patient.finalize("success")
    gate.set()
    assert [each.getMessage() for each in caplog.records] == [
        "logger.mine is left out from here on: no answer within 0.05 s"
    ]


def test_one_that_does_not_keep_up_is_left_out(caplog, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    gate = threading.Event()
    patient = Patient("mine", lambda: Tracker(gate=gate))
    for _ in range(6):
        patient.log_metrics({"a": 1.0})
    gate.set()
    assert "does not keep up, 3 calls wait" in caplog.text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_thread_of_its_own():
    tracker = Tracker()
    patient = Patient("mine", lambda: tracker)
    if not (child := os.fork()):
        patient.log_metrics({"a": 1.0}, 1)
        patient.finalize("success")
        os._exit(len(tracker.told))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def test_one_that_cannot_be_made(caplog):
    def missing():
        raise ModuleNotFoundError("its package is not installed")

    Patient("mine", missing).finalize("success")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_error_of_a_guarded_tracker_is_warned_of_once(caplog):
    tracker = Tracker(error=ConnectionResetError("its process is gone"))
    guarded = guard("wandb", tracker)
    for _ in range(3):
        guarded.log_metrics({"a": 1.0}, 1)
    tracker.error = None
    guarded.log_metrics({"a": 2.0}, 2)
    assert [each.getMessage() for each in caplog.records] == [
        "logger.wandb lacks some of this run: its process is gone"
    ]
    assert tracker.told == [({"a": 2.0}, 2)]


@pytest.mark.parametrize("kind", [CSVLogger, Kept])
def test_a_guarded_tracker_can_be_handed_to_a_process_that_is_spawned(kind, tmp_path, caplog):
    guarded = guard("mine", kind(tmp_path))
    again = pickle.loads(pickle.dumps(guarded))
    again.log_metrics({"a": 1.0}, 1)
    assert caplog.records == []
    again.log_metrics(None, 2)  # fails
    again.finalize(None)
    assert [each.getMessage()[:36] for each in caplog.records] == [
        "logger.mine lacks some of this run: "
    ]
    assert again.log_metrics.logger is again
    assert not guarded.log_metrics.failures.failed


def test_so_can_a_patient_one():
    patient = Patient("mine", lambda: Kept("folder"))
    patient.log_metrics({"a": 1.0}, 1)
    patient.finalize("success")
    again = pickle.loads(pickle.dumps(patient))
    again.log_metrics({"a": 2.0}, 2)
    again.finalize("success")
    assert patient._logger.told == [({"a": 1.0}, 1), "success"]
    assert again._logger.told == [({"a": 1.0}, 1), "success", ({"a": 2.0}, 2), "success"]


def test_an_end_that_hangs_is_not_waited_for(caplog):
    gate = threading.Event()
    wait_for("the end", gate.wait, seconds=0.05)
    gate.set()
    assert "the end did not end within 0.05 s" in caplog.text
    with pytest.raises(OSError, match="broken"):
        wait_for("the end", lambda: (_ for _ in ()).throw(OSError("broken")))
