"""A run's folder that holds a run already."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from forked import Command
from milforge.runs.checkpoint_io import last_whole
from thinned import thinned

RUN = (
    "data.train=24",
    "data.val=8",
    "data.test=8",
    "loader.batch_size=4",
    "model.encoder.hidden=[8]",
    "model.encoder.dropout=0.5",
    "scheduler=plateau",
    "scheduler.patience=0",
    "logger=csv",
    "callbacks.figures=null",
)


def weights(run):
    """Those of the last checkpoint, and the learning rate and more of the scheduler."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (scheduler,) = checkpoint["lr_schedulers"]
    numbers = [torch.tensor([float(scheduler[key]) for key in ("best", "num_bad_epochs")])]
    numbers += [torch.tensor(scheduler["_last_lr"]), *checkpoint["state_dict"].values()]
    return torch.cat([each.flatten().double() for each in numbers])


def rows(run):
    with (run / "metrics.csv").open(newline="") as lines:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(lines)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture
def tmp_path(folder):
    """One for all tests, each of which finds it empty: a kept run lies where it was trained."""
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


@pytest.fixture
def runs(tmp_path):
    """The folder of the runs."""
    return tmp_path / "logs" / "train" / "runs"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Copies of the runs that several tests begin with."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def once(here, runs, kept):
    """`once("whole", 4)`: a run of four epochs, trained for the first test that wants it."""

    def call(name, epochs):
        if not (kept / name).exists():
            outcome = here("train", *RUN, f"trainer.max_epochs={epochs}", f"run={name}")
            assert outcome.returncode == 0, outcome.stderr
            shutil.copytree(runs / name, kept / name)
        elif not (runs / name).exists():
            shutil.copytree(kept / name, runs / name)
        return runs / name

    return call


@pytest.fixture
def whole(once):
    """A run of four epochs that nothing disturbed."""
    return once("whole", 4)


@pytest.fixture
def cut(once):
    """A run that came two epochs far and never to its summary."""
    run = once("cut", 2)
    (run / "summary.json").unlink()
    return run


def test_it_goes_on_and_ends_where_it_would_have_ended(here, whole, cut):
    begun = [cut / ".summary.json.0123.partial", cut / "checkpoints" / ".best.ckpt.4567.partial"]
    for path in (*begun, cut / "notes.partial"):
        path.write_bytes(b"half")
    outcome = here("train", *RUN, "trainer.max_epochs=4", "run=cut")
    assert outcome.returncode == 0, outcome.stderr
    assert "going on from" in outcome.stdout
    assert torch.equal(weights(cut), weights(whole))
    assert rows(cut) == rows(whole)
    found, expected = (
        json.loads((run / "summary.json").read_text())["metrics"] for run in (cut, whole)
    )
    assert found == expected
    # What it had begun to write is gone, and nothing else.
    assert list(cut.rglob("*.partial")) == [cut / "notes.partial"]


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(here, whole, cut):
    (cut / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    outcome = here("train", *RUN, "trainer.max_epochs=4", "run=cut")
    assert "last.ckpt is damaged, going on from previous.ckpt" in outcome.stdout
    assert torch.equal(weights(cut), weights(whole))
    assert rows(cut) == rows(whole)


def test_without_a_whole_checkpoint_it_begins_anew(here, whole, cut):
    for name in ("last.ckpt", "previous.ckpt"):
        (cut / "checkpoints" / name).write_bytes(b"damaged")
    outcome = here("train", *RUN, "trainer.max_epochs=4", "run=cut")
    assert "the run begins anew" in outcome.stdout
    assert torch.equal(weights(cut), weights(whole))


def test_a_finished_run_is_left_as_it_is(here, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    outcome = here("train", *RUN, "trainer.max_epochs=4", "run=whole")
    assert outcome.returncode == 0
    assert "finished" in outcome.stdout
    assert "test/auroc" in outcome.stdout
    after = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    assert after == before


def test_a_finished_run_without_a_number_is_left_too(here, whole):
    """AUROC of test bags of one class."""
    path = whole / "summary.json"
    summary = json.loads(path.read_text())
    summary["metrics"]["test/auroc"] = None
    path.write_text(json.dumps(summary))
    outcome = here("train", *RUN, "trainer.max_epochs=4", "run=whole")
    assert outcome.returncode == 0, outcome.stderr
    assert re.search(r"test/auroc +nan\n", outcome.stdout)


@pytest.mark.parametrize(
    ("override", "named"),
    thinned(
        [
            ("data.target=3", "data.target is 9 there and 3 here"),
            ("seed=5", "seed is 0 there"),
            ("loader.batch_size=5", "loader.batch_size is 4 there and 5 here"),
            ("loss=focal", "loss._partial_ is not set there and True here"),
            ("+metrics.f1=null", "metrics.f1 is not set there and None here"),
            ("task.class_weights=balanced", "task.class_weights is None there and balanced here"),
            (
                "graph=chain",
                "graph._target_ is not set there and milforge.graph.AdjacencyBuilder here",
            ),
            ("freeze=encoder", "freeze is None there and encoder here"),
            ("standardise=null", "standardise is auto there and None here"),
            ("monitor=val/auroc", "monitor is None there and val/auroc here"),
            (
                "trainer.gradient_clip_val=0.5",
                "trainer.gradient_clip_val is None there and 0.5 here",
            ),
            (
                "+trainer.limit_train_batches=2",
                "trainer.limit_train_batches is None there and 2 here",
            ),
        ],
        every=3,
    ),
)
def test_other_settings_are_refused(here, cut, override, named):
    outcome = here("train", *RUN, override, "run=cut")
    assert named in outcome.error()
    assert "run=NAME" in outcome.error()


def test_what_costs_time_or_memory_alone_may_change(here, whole, cut):
    """As the classes and functions that the config names say themselves."""
    harmless = ("loader.eval_batch_size=3", "trainer.max_epochs=4", "run=cut")
    outcome = here("train", *RUN, *harmless)
    assert outcome.returncode == 0, outcome.stderr
    assert torch.equal(weights(cut)[2:], weights(whole)[2:])


def test_the_folder_of_a_cache_may_change(here, runs):
    run = ("data=digits_grid", "data.mean_side=4", *RUN, "run=grid")
    assert here("train", *run, "trainer.max_epochs=1").returncode == 0
    (runs / "grid" / "summary.json").unlink()
    outcome = here("train", *run, "graph.cache=graphs", "trainer.max_epochs=2")
    assert outcome.returncode == 0, outcome.stderr
    assert "going on from" in outcome.stdout
    (runs / "grid" / "summary.json").unlink()
    told = here("train", *run, "graph.neighbours=4").error()
    assert "graph.neighbours is 8 there and 4 here" in told


def test_a_sweep_begun_again_runs_what_is_missing_and_keeps_its_settings(here, tmp_path):
    sweep = (*RUN, "trainer.max_epochs=1", "seed=0,1", "sweep=demo")
    assert here("train", "-m", *sweep).returncode == 0
    folder = tmp_path / "logs" / "train" / "multiruns" / "demo"
    kept = (folder / "0" / "summary.json").stat().st_mtime_ns
    expected = weights(folder / "1")
    for name in ("summary.json", "checkpoints/last.ckpt", "config.yaml"):
        (folder / "1" / name).unlink()
    assert here("train", "-m", *sweep).returncode == 0
    assert (folder / "0" / "summary.json").stat().st_mtime_ns == kept
    assert (folder / "1" / "summary.json").is_file()
    assert torch.equal(weights(folder / "1"), expected)
    before = [(folder / job / "summary.json").read_bytes() for job in "01"]
    refused = here("train", "-m", *sweep, "data.target=3")
    assert refused.returncode == 1
    assert "data.target is 9 there and 3 here" in refused.stderr.splitlines()[-1]
    assert [(folder / job / "summary.json").read_bytes() for job in "01"] == before


def test_a_job_that_another_process_runs_is_not_one_that_failed(here, tmp_path):
    sweep = ("-m", *RUN, "trainer.max_epochs=1", "seed=0,1", "sweep=demo")
    folder = tmp_path / "logs" / "train" / "multiruns" / "demo"
    (folder / "0").mkdir(parents=True)
    holder = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder / "0" / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        outcome = here("train", *sweep)
        process.stdin.close()
    assert outcome.returncode == 1
    assert "another process is writing to" in outcome.stderr
    assert not (folder / "0" / "summary.json").exists()
    assert (folder / "1" / "summary.json").exists()


def test_a_job_that_fails_leaves_its_error(here, tmp_path):
    sweep = ("-m", *RUN, "trainer.max_epochs=1", "sweep=demo")
    failed = here("train", *sweep, "model.encoder.dropout=0.5,2")
    assert failed.returncode == 1
    folder = tmp_path / "logs" / "train" / "multiruns" / "demo"
    summaries = [json.loads((folder / job / "summary.json").read_text()) for job in "01"]
    assert [summary["status"] for summary in summaries] == ["finished", "failed"]
    assert "dropout" in summaries[1]["error"]


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path, here, runs):
    """SIGKILL, in the middle of anything that it does."""
    length = ("callbacks.early_stopping=null", "trainer.max_epochs=25")  # not over before it dies
    command = (*RUN, *length, "run=killed")
    # As many threads as here: their number decides in which order sums are rounded.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = Command("train", command, tmp_path, threads)
    end = time.monotonic() + 120
    while last_whole(runs / "killed" / "checkpoints")[0] is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (runs / "killed" / "summary.json").exists()
    assert here("train", *command).returncode == 0
    assert here("train", *command[:-1], "run=undisturbed").returncode == 0
    assert torch.equal(weights(runs / "killed"), weights(runs / "undisturbed"))


def test_a_run_that_stopped_early_stays_so(here, runs):
    """Killed after its last epoch, before it wrote its summary."""
    run = (*RUN, "trainer.max_epochs=40", "callbacks.early_stopping.patience=2", "run=early")
    assert here("train", *run).returncode == 0
    before, lines = weights(runs / "early"), rows(runs / "early")
    epochs = torch.load(runs / "early" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
    assert epochs < 39
    (runs / "early" / "summary.json").unlink()
    assert here("train", *run).returncode == 0
    assert torch.equal(weights(runs / "early"), before)
    assert rows(runs / "early") == lines


def test_a_folder_that_was_moved_keeps_its_best_epoch(here, whole, cut, tmp_path):
    moved = tmp_path / "moved" / "train" / "runs" / "cut"
    moved.parent.mkdir(parents=True)
    cut.rename(moved)
    outcome = here("train", *RUN, "trainer.max_epochs=4", "run=cut", "paths.log_dir=moved")
    assert outcome.returncode == 0, outcome.stderr
    assert rows(moved) == rows(whole)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (moved, whole)]
    assert summaries[0]["best_epoch"] == summaries[1]["best_epoch"]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    for name in ("last.ckpt", "best.ckpt"):
        states = [
            [
                (state["best_model_score"], state["dirpath"] == str(run / "checkpoints"))
                for key, state in checkpoint["callbacks"].items()
                if key.startswith("ModelCheckpoint") and "val/loss" in key
            ]
            for run in (moved, whole)
            for checkpoint in [torch.load(run / "checkpoints" / name, weights_only=True)]
        ]
        assert states[0] == states[1]
        assert states[0][0][1]


EARLY = ("trainer.max_epochs=40", "callbacks.early_stopping.patience=2")


def epochs_of(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 1


@pytest.mark.nightly
def test_a_run_that_stopped_early_goes_on_with_more_patience(here, runs):
    assert here("train", *RUN, *EARLY, "run=early").returncode == 0
    before = epochs_of(runs / "early")
    assert before < 40
    patient = (*EARLY, "callbacks.early_stopping.patience=100", "run=early", "ckpt_path=last")
    assert here("train", *RUN, *patient).returncode == 0
    assert epochs_of(runs / "early") == 40


def test_what_another_run_knew_of_its_own_data_is_not_taken_up(here, runs):
    """A run that begins from a checkpoint of one that had stopped early, and on other data."""
    assert here("train", *RUN, *EARLY, "run=early").returncode == 0
    before = epochs_of(runs / "early")
    given = f"ckpt_path={runs / 'early' / 'checkpoints' / 'last.ckpt'}"
    refused = here("train", *RUN, given, f"trainer.max_epochs={before}", "run=other")
    assert f"trainer.max_epochs={before} leaves none to be trained" in refused.stderr
    other = ("data.seed=5", f"trainer.max_epochs={before + 2}", "run=other", given)
    assert here("train", *RUN, *other).returncode == 0
    assert epochs_of(runs / "other") == before + 2
    summary = json.loads((runs / "other" / "summary.json").read_text())
    assert summary["best_epoch"] >= before
    assert (runs / "other" / "checkpoints" / "best.ckpt").exists()
    checkpoint = torch.load(runs / "other" / "checkpoints" / "last.ckpt", weights_only=True)
    points = checkpoint["milforge"]["history"]["val/loss"]
    assert [int(epoch) for epoch, _ in points] == [before, before + 1]


def test_a_finished_run_that_goes_on_is_not_finished_until_its_end(here, whole, monkeypatch):
    def cut_off(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("lightning.Trainer.test", cut_off)
    further = (*RUN, "trainer.max_epochs=5", "run=whole")
    assert here("train", *further, "ckpt_path=last").returncode == 1
    assert not (whole / "summary.json").exists()
    monkeypatch.undo()
    assert here("train", *further).returncode == 0
    assert len(rows(whole)) > 0
    assert epochs_of(whole) == 5


@pytest.mark.parametrize("end", thinned([b"7", b"1,0.5", b"1,0.5\r\n", b"," * 20 + b"\r\n"]))
def test_rows_that_a_full_disk_cut_off_are_left_out(here, cut, whole, end):
    expected = rows(whole)
    path = cut / "metrics.csv"
    path.write_bytes(path.read_bytes() + end)
    outcome = here("train", *RUN, "trainer.max_epochs=4", "run=cut")
    assert outcome.returncode == 0, outcome.stderr
    assert rows(cut) == expected


def test_of_several_validations_of_an_epoch_that_of_the_checkpoint_counts(here, runs):
    outcome = here(
        *("train", *RUN, "trainer.max_epochs=3", "+trainer.val_check_interval=2", "run=often"),
    )
    assert outcome.returncode == 0, outcome.stderr
    summary = json.loads((runs / "often" / "summary.json").read_text())
    kept = torch.load(runs / "often" / "checkpoints" / "best.ckpt", weights_only=True)
    points = kept["milforge"]["history"]["val/loss"]
    last = torch.load(runs / "often" / "checkpoints" / "last.ckpt", weights_only=True)
    least = min(value for _, value in last["milforge"]["history"]["val/loss"])
    assert summary["metrics"]["val/loss"] == points[-1][1] == least
    assert "train/loss" in summary["metrics"]


@pytest.mark.parametrize("when", ["make_data", "write_summary"])
def test_a_signal_beside_training_queues_the_job_again(here, runs, tmp_path, monkeypatch, when):
    """While the data are read, or results written."""
    command, asked = tmp_path / "bin" / "scontrol", tmp_path / "asked"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")

    def told(*args, **kwargs):
        signal.raise_signal(signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    with monkeypatch.context() as patch:
        patch.setattr(f"milforge.api.training.{when}", told)
        outcome = here("train", *RUN, "trainer.max_epochs=1", "run=told")
    assert outcome.returncode == 128 + signal.SIGUSR1
    assert asked.read_text() == "requeue 42\n"
    assert signal.getsignal(signal.SIGUSR1) is before
    monkeypatch.delenv("SLURM_JOB_ID")
    assert here("train", *RUN, "trainer.max_epochs=1", "run=told").returncode == 0
    assert (runs / "told" / "summary.json").exists()


def test_a_scheduler_waits_for_epochs_with_a_validation(here, runs):
    outcome = here(
        *("train", *RUN, "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2"),
        *("callbacks.early_stopping=null", "run=second"),
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "ReduceLROnPlateau" not in outcome.stderr
    path = runs / "second" / "checkpoints" / "last.ckpt"
    (scheduler,) = torch.load(path, weights_only=True)["lr_schedulers"]
    assert scheduler["last_epoch"] == 2


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_run_writes_to_is_refused(here, cut, runs):
    command = [sys.executable, "-c", HOLD, runs / "cut" / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        outcome = here("train", *RUN, "trainer.max_epochs=4", "run=cut")
        other.stdin.close()
    assert "another process is writing to" in outcome.error()
    assert here("train", *RUN, "trainer.max_epochs=4", "run=cut").returncode == 0
    assert not (runs / "cut" / ".lock").exists()
