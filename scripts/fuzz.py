"""Hands spoilt files and values to the commands, and looks that each gets a result or a sentence.

    python scripts/fuzz.py
    python scripts/fuzz.py --kind checkpoint --seed 7
    python scripts/fuzz.py --kind "key of train" --only 12 --show

Every kind of file that is read, and every key of the commands. The same seed draws the same inputs.
Each is given to the real command, in a process forked from this one, which has imported everything.
Right is success, or one sentence of error. Faults are a traceback, an error without a sentence, a
process that is killed, and one that does not come to an end. Exit code 1 where there is any.
"""

import argparse
import contextlib
import importlib
import logging
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fuzz_inputs
import fuzz_keys
import fuzz_runs
from fuzz_inputs import Command, Make

SECONDS = 60  # of processor time that an input may take, as a whole one takes one
PATIENCE = 300  # seconds for one that waits
MEMORY = 4 * 2**30  # that it may take more than this process has
COMMANDS = (
    *("train", "evaluate", "predict", "inspect", "report"),
    *("map", "calibrate", "bench"),
)
WITH_OPTIONS = ("inspect", "report", "bench")
# What the commands import when they need it: no child is to wait for it.
IMPORTED = (
    *(f"milforge.cli.{command}" for command in COMMANDS),
    *("milforge.api.training", "milforge.api.trained.evaluation", "milforge.report.table"),
    *("sklearn.datasets", "sklearn.model_selection", "pyarrow.csv", "matplotlib.pyplot"),
)


@dataclass(frozen=True)
class Input:
    """One input.

    Args:
        kind: of what is spoilt.
        number: within its kind; with the seed it says what is done.
        make: makes its folder; returns the command and its arguments.
    """

    kind: str
    number: int
    make: Make


def run_command(command: str, arguments: Sequence[str]) -> int:
    """Runs a command in this process; returns its exit code."""
    sys.argv = [f"milforge-{command}", *arguments]
    try:
        importlib.import_module(f"milforge.cli.{command}").main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    return 0


def in_child(command: Command, work: Path, log: Path) -> tuple[int, str]:
    """Runs a command in a folder, in a process of its own.

    Returns:
        The exit code, negative for a signal; and what was printed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other threads of this process wait
        child = os.fork()
    if child == 0:
        code = 70
        try:
            warnings.simplefilter("ignore")
            logging.root.handlers.clear()  # of what imported this; their streams may be closed
            sys.dont_write_bytecode = True  # near a limit it would be cut off
            signal.alarm(PATIENCE)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            file = os.open(log, os.O_WRONLY | os.O_CREAT)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            os.chdir(work)
            code = run_command(*command)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")


def judge(code: int, output: str, command: Command) -> str:
    """`result`, `sentence`, or what is wrong."""
    if code in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL):
        return f"does not end within {SECONDS} s of work, or {PATIENCE} s of waiting"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    if "Traceback (most recent call last)" in output:
        return f"traceback: {output.strip().splitlines()[-1][:200]}"
    if code == 0:
        return "result"
    if command[0] == "inspect" and code == 1:
        return "sentence"  # it lists faults, a line each
    if (
        command[0] in WITH_OPTIONS
        and code == 2
        and re.search(r"^milforge-\w+: error: ", output, re.M)
    ):
        return "sentence"  # Python's own, of its parser of options
    errors = re.findall(r"^error: (?=\S)", output, re.M)
    return "sentence" if code == 1 and len(errors) == 1 else f"exit code {code} without a sentence"


def all_inputs(base: Path, share: int) -> Iterator[Input]:
    """Every input, or one of so many of each kind.

    Args:
        base: the folder of the whole runs.
        share: of so many, one.
    """
    for kind, (count, make) in {**fuzz_inputs.KINDS, **fuzz_runs.KINDS}.items():
        yield from (Input(kind, number, make) for number in range(max(1, count // share)))

    def print_help(command: str) -> str:
        return in_child((command, ["--help"]), base, base / f"help_{command}.txt")[1]

    for kind, makes in fuzz_keys.kinds(base, print_help).items():
        some = fuzz_keys.chosen(makes, share)
        yield from (Input(kind, number, make) for number, make in enumerate(some))


def try_all(options: argparse.Namespace, place: Path) -> dict[str, Counter[str]]:
    """Tries the inputs in a folder, prints the faults, and counts what came out, by kind."""
    for number, command in enumerate(fuzz_runs.whole(place)):
        code, output = in_child(command, place, place / f"whole_{number}.txt")
        if code:
            raise SystemExit(f"expected a whole run to end well, got:\n{output}")
    results: dict[str, Counter[str]] = {}
    for each in all_inputs(place, 100 if options.short else 1):
        if options.kind and each.kind not in options.kind:
            continue
        if options.only not in (None, each.number):
            continue
        folder = place / f"{each.kind.replace(' ', '_')}_{each.number}"
        (folder / "work").mkdir(parents=True)
        draw = random.Random(f"{options.seed} {each.kind} {each.number}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some kinds of tensors are no longer to be made
            command = each.make(folder / "work", draw, place)
        began = time.monotonic()
        code, output = in_child(command, folder / "work", folder / "output.txt")
        verdict = judge(code, output, command)
        right = verdict in ("result", "sentence")
        results.setdefault(each.kind, Counter())[verdict if right else "fault"] += 1
        line = f"      {command[0]} {' '.join(command[1]):.400}"
        if not right:
            print(f"FAULT {each.kind!r} {each.number}: {verdict}\n{line}")
        if options.show:
            print(f"{output}\n{line}\n{time.monotonic() - began:.1f} s")
        sys.stdout.flush()
        shutil.rmtree(folder)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Tries the inputs and prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="inputs of this kind alone; several times")
    parser.add_argument("--only", type=int, help="the input of this number alone")
    parser.add_argument("--short", action="store_true", help="one of a hundred")
    parser.add_argument("--show", action="store_true", help="print all that the command printed")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("WANDB_MODE", "offline")
    for name in IMPORTED:
        importlib.import_module(name)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        results = try_all(options, Path(place))
    print(f"{'kind':<30} {'inputs':>7} {'result':>7} {'sentence':>9} {'fault':>6}")
    for kind, counts in results.items():
        columns = (counts["result"], counts["sentence"], counts["fault"])
        print(f"{kind:<30} {counts.total():>7} {columns[0]:>7} {columns[1]:>9} {columns[2]:>6}")
    total = sum(results.values(), Counter[str]())
    print(f"{total.total()} inputs, {total['fault']} faults, {time.monotonic() - start:.0f} s")
    return 1 if total["fault"] else 0


if __name__ == "__main__":
    sys.exit(main())
