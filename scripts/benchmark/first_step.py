"""Seconds from the start of `milforge-train` to its first step, on new files and on known ones.

    python scripts/benchmark/first_step.py --bags 5000

Writes that many bags of 20 x 1,024 float32 in the folders of CLAM, a chunk for every row, as CLAM
does, with a table of labels, and starts `milforge-train data=feature_bags` on them with a cache of
the user that is empty, and then again with what the first run left there. A run is ended where its
first step begins. Given are seconds by the clock and of the processor, imports included; a third
run, on 20 of the bags, shows what the start takes whatever the data.
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from reading import WIDTH, write_bag

ROWS, FEW = 20, 20
CHILD = """
import os, sys
from milforge.training.module import MILModule

MILModule.training_step = lambda *_: (print("first step", flush=True), os._exit(0))
from milforge.cli.train import main

main()
"""


def write(folder: Path, count: int) -> None:
    """The bags of a cohort, and a table of their labels."""
    (folder / "h5_files").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        x = rng.standard_normal((ROWS, WIDTH), dtype=np.float32)
        write_bag("clam", folder / "h5_files" / f"bag_{number}.h5", x)
        rows.append([f"patient_{number}", f"bag_{number}", number % 2])
    with (folder / "labels.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([["case_id", "slide_id", "label"], *rows])


def first_step(folder: Path, name: str) -> tuple[float, float]:
    """Seconds to the first step, by the clock and of the processor.

    Raises:
        RuntimeError: where there is none.
    """
    arguments = ["data=feature_bags", f"data.root={folder}", f"data.labels={folder / 'labels.csv'}"]
    arguments += ["model=abmil", "logger=none", f"run={name}", "task.positive='1'"]
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", CHILD, *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if "first step" not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bags", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3, help="of what is found out before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        cohort, few = Path(name) / "all", Path(name) / "few"
        write(cohort, options.bags)
        write(few, FEW)
        time.sleep(2.1)  # younger files are not believed to stay as they are
        first_step(few, "warm")  # fills the system's cache with what is imported
        new = [first_step(cohort, "new")]
        again = [first_step(cohort, f"again{i}") for i in range(options.repeats)]
        small = [first_step(few, f"few{i}") for i in range(options.repeats)]
    runs = {
        f"{options.bags:,} bags, never seen": new,
        "the same files again": again,
        f"{FEW} bags, again": small,
    }
    print("| | to the first step, s | of the processor, s |")
    print("| --- | --- | --- |")
    for label, times in runs.items():
        wall, cpu = (min(each) for each in zip(*times, strict=True))
        print(f"| {label} | {wall:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
