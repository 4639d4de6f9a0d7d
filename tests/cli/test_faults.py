"""What the system refuses a command, or shows only in part: a sentence, and nothing lost."""

import errno
import io
import os
import sys
import threading

import h5py
import numpy as np
import pytest
import wandb

from bag_folders import labelled_bags, plain_folder
from milforge.api.trained.evaluation import checkpoint_list
from milforge.api.wandb_run import stage_in
from milforge.cli.common.terminal import show_any_name
from milforge.config.checkpoints.checkpoint_config import load_checkpoint
from milforge.data.features.readers import open_reader
from milforge.runs.checkpoint_io import is_whole


def refuse(number):
    def fail(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    return fail


def test_a_read_only_working_folder_is_told_before_anything_is_done(here, monkeypatch):
    monkeypatch.setattr(os, "mkdir", refuse(errno.EROFS))
    error = here("train", "logger=csv").error()
    assert "Read-only file system" in error
    assert "paths.log_dir" in error


def test_an_optimiser_that_cannot_be_built_is_told_before_training(here, monkeypatch):
    monkeypatch.setattr("lightning.Trainer.fit", refuse(errno.EIO))
    sizes = ("data.train=4", "data.val=2", "data.test=2", "logger=csv")
    error = here("train", *sizes, "optimizer=sgd", "optimizer.momentum=-1.0").error()
    assert "momentum" in error
    error = here("train", *sizes, "model.encoder.hidden=[1000000000000000]").error()
    assert error.startswith(("model: expected values", "there is not enough memory"))


def test_a_locked_file_is_not_called_damaged(tmp_path):
    plain_folder(tmp_path, [3])
    reader = open_reader(tmp_path)
    assert len(reader.read("b0")) == 3

    def locked(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "unable to lock file, errno = 11")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h5py, "File", locked)
        with pytest.raises(ValueError, match="lock of another process") as told:
            reader.read("b0")
    assert "damaged" not in str(told.value)
    assert "remove the file" not in str(told.value)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_a_checkpoint_is_not_called_damaged_where_memory_or_handles_lack(
    checkpoint, monkeypatch, error
):
    """A run would begin anew, and throw away what it has."""

    def fail(*_, **__):
        raise error

    assert is_whole(checkpoint)
    monkeypatch.setattr("torch.load", fail)
    for read in (is_whole, lambda path: load_checkpoint(str(path))):
        with pytest.raises((OSError, ValueError), match=r"loader\.num_workers") as told:
            read(checkpoint)
        assert "damaged" not in str(told.value)


def test_wandb_gathers_in_the_run_where_it_may_not_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CACHE_DIR", "")  # to be put back
    monkeypatch.delenv("WANDB_CACHE_DIR")
    stage_in(tmp_path / "run")
    assert wandb.env.get_data_dir() == str(tmp_path / "home")
    assert "WANDB_CACHE_DIR" not in os.environ
    monkeypatch.setattr(os, "mkdir", refuse(errno.EROFS))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "read_only"))
    stage_in(tmp_path / "run")
    assert wandb.env.get_data_dir() == str(tmp_path / "run")
    assert os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "run" / "cache")


@pytest.mark.slow
def test_a_tracker_that_fails_costs_no_results(here, monkeypatch, tmp_path, read_summary):
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))

    def fail(*_, **__):
        raise PermissionError("Unable to write staging files")

    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger.log_table", fail)
    sizes = ("data.train=8", "data.val=6", "data.test=6", "trainer.max_epochs=1")
    with pytest.warns(UserWarning, match="Unable to write staging files") as told:
        outcome = here("train", *sizes, "callbacks.figures=null")
    lost = [str(each.message) for each in told]
    assert any(each.startswith("a tracker did not get the table of predictions") for each in lost)
    assert outcome.returncode == 0
    assert read_summary(outcome.run())["status"] == "finished"


@pytest.mark.slow
def test_a_tracker_whose_process_is_gone_and_that_hangs_at_the_end_costs_no_results(
    here, monkeypatch, read_summary
):
    """W&B's process may be the first that the system kills where memory lacks."""

    def gone(*_, **__):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    gate = threading.Event()
    finish = wandb.finish
    monkeypatch.setattr("wandb.sdk.wandb_run.Run.log", gone)
    monkeypatch.setattr("wandb.finish", lambda code: gate.wait())
    monkeypatch.setattr("milforge.api.trainer.FINISH_SECONDS", 1.0)
    sizes = ("data.train=8", "data.val=6", "data.test=6", "trainer.max_epochs=1")
    try:
        outcome = here("train", *sizes, "callbacks.figures=null")
    finally:
        gate.set()
        finish(0)
    assert outcome.returncode == 0, outcome.stderr
    assert read_summary(outcome.run())["status"] == "finished"
    told = outcome.stdout + outcome.stderr
    assert "logger.wandb lacks some of this run: [Errno 104] Connection reset by peer" in told
    assert "W&B did not end within 1 s, and is not waited for" in told


def test_names_that_the_terminal_cannot_show_end_no_command(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    show_any_name()
    print("slide é \udce9", flush=True)
    assert raw.getvalue() == b"slide \\xe9 \\udce9\n"


def test_a_file_name_that_is_no_text_is_refused_before_training(here, tmp_path):
    labelled_bags(tmp_path / "bags", layout="root")
    os.rename(tmp_path / "bags" / "s00.h5", os.fsencode(tmp_path / "bags") + b"/s\xe9.h5")
    error = here("train", "data=feature_bags", "data.root=bags", "logger=csv").failure()
    assert "expected names of bags in UTF-8" in error
    assert "rename" in error
    outcome = here("inspect", "bags")
    assert outcome.returncode == 1
    assert "expected a name in UTF-8" in outcome.stdout


def test_paths_with_signs_of_hydra_are_taken_in_quotes(here, tmp_path):
    folder = tmp_path / "a=b, it's {x}"
    for number in range(2):
        folder.mkdir(exist_ok=True)
        np.save(folder / f"s{number}.npy", np.ones((3, 2), np.float32))
    given = ("data=feature_bags", "logger=csv", "trainer.max_epochs=1")
    assert "'data.root=\"VALUE\"'" in here("train", *given, f"data.root={folder}").failure()
    error = here("train", *given, f'data.root="{folder}"').failure()
    assert "labelled bags" in error or "labels" in error  # it was read: there are no labels


@pytest.mark.parametrize("given", [{1: 2}, [], [1], 3, None])
def test_what_names_no_checkpoint_is_refused(given):
    with pytest.raises(ValueError, match="ckpt_path: expected a file"):
        checkpoint_list(given)
