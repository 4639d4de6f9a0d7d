"""What happens to the other processes of a run when one of them gets a signal to end, or dies."""

import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from forked import Command

pytestmark = [pytest.mark.ddp, pytest.mark.slow]
RUN = (
    *("data.train=24", "data.val=6", "data.test=6", "loader.batch_size=4"),
    *("model.encoder.hidden=[8]", "model.encoder.dropout=0", "model.dropout=0"),
    *("callbacks.figures=null", "callbacks.early_stopping=null", "logger=csv"),
)
MINUTE = 60


def start(folder, *arguments, **env):
    """A training of its own; many processes of it share its group."""
    env = {"OMP_NUM_THREADS": "1", **env}
    return Command("train", (*RUN, *arguments), folder, env, new_session=True)


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def children(pid):
    """The processes that another has started and that still run."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(each) for each in listed if b"milforge" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def weights(run):
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([each.flatten().double() for each in state.values()])


@pytest.fixture
def ddp_run(tmp_path):
    """A long training on two processes that has begun, its folder, and its second process."""
    run = tmp_path / "logs" / "train" / "runs" / "a"
    process = start(tmp_path, "trainer=ddp_cpu", "run=a", "trainer.max_epochs=100000")
    try:
        saved = run / "checkpoints" / "last.ckpt"
        wait_for(lambda: saved.exists() or process.poll() is not None)
        assert process.poll() is None, process.output()
        (other,) = children(process.pid)
        yield process, run, other
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_run_on_two_that_is_told_to_end_goes_on_on_one(ddp_run, tmp_path):
    process, run, other = ddp_run
    process.send_signal(signal.SIGTERM)
    code = process.wait(MINUTE)
    assert code == 128 + signal.SIGTERM
    assert process.output().count("the run is saved") == 1
    wait_for(lambda: not is_alive(other), MINUTE)
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    epochs = step // 6 + 2  # of six steps each
    length = f"trainer.max_epochs={epochs}"
    for name in ("a", "whole"):
        done = start(tmp_path, length, f"run={name}")
        code = done.wait(MINUTE * 3)
        assert code == 0, done.output()
    found, expected = weights(run), weights(run.parent / "whole")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    metrics = [
        json.loads((folder / "summary.json").read_text())["metrics"]
        for folder in (run, run.parent / "whole")
    ]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)


def test_when_the_second_dies_the_first_says_so_and_ends(ddp_run):
    process, run, other = ddp_run
    os.kill(other, signal.SIGKILL)
    code = process.wait(MINUTE)
    assert code != 0
    assert "error: another process of this run has ended" in process.output()
    assert "Traceback" not in process.output()
    torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.nightly
def test_when_the_first_dies_the_second_says_so_and_ends(ddp_run):
    process, run, other = ddp_run
    process.kill()
    process.wait(MINUTE)
    wait_for(lambda: not is_alive(other), MINUTE)
    # Whether it sees the connection close or its parent gone first is a matter of luck.
    assert re.search("error: (another|the first) process of this run has ended", process.output())
    assert "Traceback" not in process.output()
    torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.nightly
def test_when_the_first_dies_before_they_meet_the_second_ends(tmp_path):
    """The second waits for the first, which starts it and is stopped at once."""
    process = start(tmp_path, "trainer=ddp_cpu", "run=a")
    try:
        (other,) = wait_for(lambda: children(process.pid))
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: len(list(Path(f"/proc/{other}/task").iterdir())) > 1)
        process.kill()
        wait_for(lambda: not is_alive(other), 2 * MINUTE)
        assert "process of this run has ended" in process.output()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.nightly
def test_a_signal_to_all_processes_of_a_job_is_no_matter_to_those_that_read(tmp_path):
    """As SLURM sends it: the readers have it first, and the run needs them until it is saved."""
    run = tmp_path / "logs" / "train" / "runs" / "a"
    with_reader = ("loader.num_workers=1", "run=a")
    process = start(tmp_path, *with_reader, "trainer.max_epochs=100000")
    try:
        wait_for((run / "checkpoints" / "last.ckpt").exists)
        os.killpg(process.pid, signal.SIGUSR1)
        code = process.wait(MINUTE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert code == 128 + signal.SIGUSR1, process.output()
    assert "the run is saved" in process.output()
