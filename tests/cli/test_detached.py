"""A sweep that is left once its jobs are in the queue."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from milforge.cli.detached import check_detach, leave_once_submitted


def hydra(launcher="hydra_plugins.x.SlurmLauncher", batch=None):
    return OmegaConf.create(
        {"launcher": {"_target_": launcher}, "sweeper": {"max_batch_size": batch}}
    )


def test_what_cannot_be_left_is_refused():
    check_detach(hydra(), searches=False)
    with pytest.raises(ValueError, match="expected launcher=submitit_slurm"):
        check_detach(hydra("hydra_plugins.x.LocalLauncher"), searches=False)
    with pytest.raises(ValueError, match="a search waits for its jobs"):
        check_detach(hydra(), searches=True)
    with pytest.raises(ValueError, match="array_parallelism"):
        check_detach(hydra(batch=2), searches=False)


def test_the_command_ends_when_the_jobs_are_in_the_queue(monkeypatch, capsys):
    submitted = []

    class AutoExecutor:
        def map_array(self, function, *arguments):
            submitted.append(arguments)
            return [SimpleNamespace(job_id=f"77_{i}") for i in range(3)]

    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=AutoExecutor))
    leave_once_submitted(Path("logs/cv"))
    with pytest.raises(SystemExit) as end:
        AutoExecutor().map_array(print, [1, 2, 3])
    assert end.value.code == 0
    assert submitted == [([1, 2, 3],)]
    assert capsys.readouterr().out.splitlines() == [
        "3 jobs are in the queue, from 77_0 on; none is waited for",
        "survey       milforge-report logs/cv",
    ]
