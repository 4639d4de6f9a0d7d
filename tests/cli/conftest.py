"""Runs of the real commands: in this process, and, where that matters, in one of their own."""

import importlib
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from composing import compose_once
from forked import Command

# The smallest run in which everything happens.
TINY = ("data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=2")
NO_FIGURES = "callbacks.figures=null"  # they take most of the seconds of a tiny run


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str
    folder: Path

    def run(self, task="train"):
        """The folder of its only run."""
        (folder,) = (self.folder / "logs" / task / "runs").iterdir()
        return folder

    def failure(self):
        """Its only line of error, without the first word."""
        assert self.returncode == 1
        assert "Traceback" not in self.stderr
        (line,) = [line for line in self.stderr.splitlines() if line.startswith("error:")]
        return line.removeprefix("error: ")

    def error(self):
        """The same of a command that leaves nothing behind, nor did another one before it."""
        line = self.failure()
        summaries = [json.loads(path.read_text()) for path in self.folder.rglob("summary.json")]
        assert all(summary["status"] == "failed" for summary in summaries)
        assert not [*self.folder.glob("logs/*/runs/*/*.partial")]
        return line


def call_process(folder, command, *arguments, **env):
    """A command in a process of its own, its standard error no terminal.

    It has as many threads as this one: their number decides in which order sums are rounded.
    """
    env = {"OMP_NUM_THREADS": str(torch.get_num_threads()), **env}
    done = Command(command, arguments, folder, env)
    return Outcome(done.wait(), done.stdout(), done.stderr(), Path(folder))


@pytest.fixture(scope="session", autouse=True)
def mode_is_composed_once():
    with pytest.MonkeyPatch.context() as patch:
        compose_once(patch)
        yield


@pytest.fixture
def process(tmp_path):
    """`process("train", "seed=1")`, in a folder of its own."""
    return lambda command, *arguments, **env: call_process(tmp_path, command, *arguments, **env)


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """`here("train", "seed=1")`: the command in this process, where importing is done already."""
    before, handlers = dict(os.environ), logging.root.handlers[:]

    def call(command, *arguments, folder=tmp_path):
        module = importlib.import_module(f"milforge.cli.{command}")
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [f"milforge-{command}", *arguments])
        capsys.readouterr()
        code = 0
        try:
            module.main()
        except SystemExit as end:
            code = end.code
        stdout, stderr = capsys.readouterr()
        if isinstance(code, str):  # as Python does with it
            code, stderr = 1, f"{stderr}{code}\n"
        return Outcome(code or 0, stdout, stderr, Path(folder))

    yield call
    # A command sets these for the whole process.
    logging.root.handlers[:] = handlers
    torch.use_deterministic_algorithms(False)
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def train(here):
    """`train("seed=1")`: a tiny run in this process, without figures if not asked."""

    def call(*arguments, figures=False, **options):
        flags = [each for each in arguments if each.startswith("-")]
        defaults = [*TINY, "logger=csv", *([] if figures else [NO_FIGURES])]
        return here("train", *flags, *defaults, *arguments[len(flags) :], **options)

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny run by the real command in a process of its own; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    outcome = call_process(folder, "train", *TINY, "logger=csv", "seed=3")
    assert outcome.returncode == 0, outcome.stderr
    return outcome


@pytest.fixture(scope="session")
def checkpoint(trained):
    """The best checkpoint of that run."""
    return trained.run() / "checkpoints" / "best.ckpt"


def summary(folder):
    """`summary.json` of a run; JSON has no NaN."""

    def refuse(word):
        raise AssertionError(f"summary.json holds {word}")

    return json.loads((folder / "summary.json").read_text(), parse_constant=refuse)


@pytest.fixture
def read_summary():
    """`read_summary(folder)`."""
    return summary


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No W&B settings from outside, and nothing written outside."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
