"""Seconds that the commands take where there is next to nothing to do, and to answer.

    python scripts/benchmark/startup.py

Help, errors in the config, and a run of one epoch of 16 bags, with and without its figures, which
is then predicted, evaluated and reported; beside them what importing PyTorch and Lightning, and all
turns, after a first round that is not counted (it fills the disk cache). Given are the median and
the range of the rounds, on the wall clock, and the median processor time, which other work on the
machine disturbs less. An answer must hold what it is expected to say, or there is no table.
"""

import argparse
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch


class Case(NamedTuple):
    """A command and its answer."""

    name: str
    command: str
    answer: str = ""
    code: int = 0


IMPORTS = "import milforge.api.trained.evaluation, milforge.api.training, milforge.cli.train"
TINY = "trainer.max_epochs=1 data.train=16 data.val=8 data.test=8 logger=csv"
CHECKPOINT = "ckpt_path=logs/train/runs/base/checkpoints/best.ckpt"
CASES = [
    Case("PyTorch and Lightning", "python -c 'import torch, lightning'"),
    Case("all that a run imports", f"python -c '{IMPORTS}'"),
    Case("help", "milforge-train --help", "can be overridden"),
    Case("help of a key", "milforge-train --help model.pool.att_dim", "att_dim"),
    Case("misspelt key", "milforge-train model.pol.att_dim=3", "did you mean 'model.pool", 1),
    Case("misspelt option", "milforge-train data=digit_bags", "did you mean 'digits_bags'", 1),
    Case("key of a class", "milforge-train +model.pool.att_dmi=3", "did you mean 'att_dim'", 1),
    Case("key of Lightning's", "milforge-train +trainer.max_epoch=3", "'max_epochs'", 1),
    Case("an epoch", f"milforge-train {TINY}", "test/auroc"),
    Case("without figures", f"milforge-train {TINY} callbacks.figures=null", "test/auroc"),
    Case("evaluation", f"milforge-evaluate {CHECKPOINT} logger=csv", "test/auroc"),
    Case("prediction", f"milforge-predict {CHECKPOINT}", "predictions"),
    Case("report", "milforge-report logs/train/runs/base", "auroc"),
]


def processor_seconds() -> float:
    """Processor time of the child processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def answer(case: Case, folder: str) -> tuple[float, float]:
    """Seconds, wall and processor, that the command takes to say what it should."""
    name, *arguments = shlex.split(case.command)
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    start, used = perf_counter(), processor_seconds()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = perf_counter() - start, processor_seconds() - used
    said = done.stdout + done.stderr
    if done.returncode != case.code or case.answer not in said:
        sys.exit(
            f"error: {case.command}: expected {case.answer!r} and exit code {case.code}, got code "
            f"{done.returncode} and:\n{said}"
        )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answer(Case("base", f"milforge-train {TINY} run=base"), folder)
        for case in CASES:
            answer(case, folder)
        rounds = [[answer(case, folder) for case in CASES] for _ in range(options.rounds)]
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores; "
        f"median of {options.rounds} interleaved rounds [least, largest]\n"
    )
    print("| | command | seconds | processor |")
    print("| --- | --- | --- | --- |")
    for case, times in zip(CASES, zip(*rounds, strict=True), strict=True):
        seconds, used = zip(*times, strict=True)
        print(
            f"| {case.name} | `{case.command}` | {statistics.median(seconds):.1f} "
            f"[{min(seconds):.1f}, {max(seconds):.1f}] | {statistics.median(used):.1f} |"
        )


if __name__ == "__main__":
    main()
