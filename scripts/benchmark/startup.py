"""Seconds from the start of `milforge-train` to its answer, for help and for errors in the config.

    python scripts/benchmark/startup.py

Each command runs in a process of its own; the commands take turns, after a first round that is not
counted (it fills the disk cache). Given are the median and the range of the rounds, on the wall
clock, and the median processor time, which other work on the machine disturbs less. An answer must
hold what it is expected to say, or there is no table.
"""

import argparse
import os
import platform
import resource
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
    arguments: list[str]
    answer: str
    code: int
    target: int


CASES = [
    Case("help", ["--help"], "can be overridden", 0, 3),
    Case("misspelt key", ["model.pol.att_dim=3"], "did you mean 'model.pool.att_dim'", 1, 3),
    Case("misspelt option", ["data=digit_bags"], "did you mean 'digits_bags'", 1, 3),
    Case("misspelt key of a class", ["+model.pool.att_dmi=3"], "did you mean 'att_dim'", 1, 10),
    Case("the same, Lightning's class", ["+trainer.max_epoch=3"], "'max_epochs'", 1, 10),
]


def processor_seconds() -> float:
    """Processor time of the child processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def answer(case: Case, folder: str) -> tuple[float, float]:
    """Seconds, wall and processor, that the command takes to say what it should."""
    command = [str(Path(sys.executable).with_name("milforge-train")), *case.arguments]
    start, used = perf_counter(), processor_seconds()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = perf_counter() - start, processor_seconds() - used
    said = done.stdout + done.stderr
    if done.returncode != case.code or case.answer not in said:
        sys.exit(
            f"error: milforge-train {' '.join(case.arguments)}: expected {case.answer!r} and exit "
            f"code {case.code}, got code {done.returncode} and:\n{said}"
        )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            answer(case, folder)
        rounds = [[answer(case, folder) for case in CASES] for _ in range(options.rounds)]
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores; "
        f"median of {options.rounds} interleaved rounds [least, largest]\n"
    )
    print("| | milforge-train | seconds | processor | target |")
    print("| --- | --- | --- | --- | --- |")
    for case, times in zip(CASES, zip(*rounds, strict=True), strict=True):
        seconds, used = zip(*times, strict=True)
        print(
            f"| {case.name} | `{' '.join(case.arguments)}` | {statistics.median(seconds):.1f} "
            f"[{min(seconds):.1f}, {max(seconds):.1f}] | {statistics.median(used):.1f} | "
            f"{case.target} |"
        )


if __name__ == "__main__":
    main()
