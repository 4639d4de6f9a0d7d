"""A tracker that fails or hangs is left alone."""

import logging
import threading

import pytest

from milforge.trackers.patient import Patient, wait_for


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


def test_one_that_fails_is_warned_of_once(caplog):
    tracker = Tracker(error=OSError("the server is gone\nmore"))
    patient = Patient("mine", lambda: tracker)
    for _ in range(3):
        patient.log_metrics({"a": 1.0})
    patient.finalize("success")
    assert [record.getMessage() for record in caplog.records] == [
        "logger.mine is left out from here on: the server is gone"
    ]
    assert tracker.told == []


def test_one_that_hangs_is_not_waited_for(caplog):
    gate = threading.Event()
    patient = Patient("mine", lambda: Tracker(gate=gate), seconds=0.05)
    patient.log_metrics({"a": 1.0})
    patient.log_metrics({"a": 2.0})
    gate.set()
    (record,) = caplog.records
    assert record.getMessage().endswith("no answer within 0.05 s")


def test_one_that_cannot_be_made(caplog):
    def missing():
        raise ModuleNotFoundError("its package is not installed")

    Patient("mine", missing).finalize("success")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_end_that_hangs_is_not_waited_for(caplog):
    gate = threading.Event()
    wait_for("the end", gate.wait, seconds=0.05)
    gate.set()
    assert "the end did not end within 0.05 s" in caplog.text
    with pytest.raises(OSError, match="broken"):
        wait_for("the end", lambda: (_ for _ in ()).throw(OSError("broken")))
