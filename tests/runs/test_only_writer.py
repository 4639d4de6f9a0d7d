"""The lock on a run's folder."""

import os

import pytest

from milforge.runs import resume
from milforge.runs.resume import only_writer


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
def test_a_lock_that_an_ending_run_removes_keeps_nobody_out(tmp_path, monkeypatch):
    path, lock, locked = tmp_path / ".lock", resume.lock, []

    def late(file):
        """The run before ends, and removes its lock, when this one has opened it."""
        if not locked:
            path.unlink()
        locked.append(file)
        lock(file)

    monkeypatch.setattr(resume, "lock", late)
    with only_writer(tmp_path):
        assert os.path.samestat(os.fstat(locked[-1].fileno()), path.stat())
    assert [file.closed for file in locked] == [True, True]
    assert not path.exists()
