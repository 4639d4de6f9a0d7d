"""One sweep by every launcher: the same results, how long each takes, and a sweep that is killed.

    python scripts/benchmark/sweep.py

Two models x three draws of the bags x two seeds on scikit-learn's digits, through the real command
line with one thread a job. The digits have no folds: `data.seed` draws the bags again, as a fold
would. Then the same sweep is killed (SIGKILL to all its processes) when a third of its jobs are
done, and begun again: only the unfinished jobs may run, and all end with the same results.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

LAUNCHERS = ("basic", "joblib", "submitit_local")
SWEEP = ("model=abmil,mean_pool", "data.seed=0,1,2", "seed=0,1")
JOBS = 12
RUN = (
    "data.train=200",
    "data.val=50",
    "data.test=50",
    "trainer.max_epochs=3",
    "logger=csv",
    "callbacks.figures=null",
)

Metrics = dict[str, float | None]


def start(folder: Path, launcher: str, name: str) -> subprocess.Popen[bytes]:
    """Begins the sweep, in a process group of its own."""
    command = [sys.executable, "-m", "milforge.cli.train", "-m", f"launcher={launcher}"]
    return subprocess.Popen(
        [*command, f"sweep={name}", *SWEEP, *RUN],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def summaries(folder: Path, name: str) -> dict[int, Path]:
    """The summaries that there are, by the number of the job."""
    found = (folder / "logs" / "train" / "multiruns" / name).glob("*/summary.json")
    return {int(path.parent.name): path for path in found}


def metrics(folder: Path, name: str) -> dict[int, Metrics]:
    """The metrics of each job.

    Raises:
        SystemExit: where a job is missing or failed.
    """
    read = {n: json.loads(path.read_text()) for n, path in summaries(folder, name).items()}
    finished = {n: each["metrics"] for n, each in read.items() if each["status"] == "finished"}
    if len(finished) != JOBS:
        sys.exit(f"expected {JOBS} finished jobs in {name}, found {sorted(finished)}")
    return finished


def difference(one: dict[int, Metrics], other: dict[int, Metrics]) -> float:
    """The largest difference between two values of the same metric of the same job."""
    if {n: set(each) for n, each in one.items()} != {n: set(each) for n, each in other.items()}:
        sys.exit("expected the same metrics of the same jobs")
    pairs = [(one[n][name], other[n][name]) for n in one for name in one[n]]
    if any((a is None) != (b is None) for a, b in pairs):
        sys.exit("expected the same metrics to be numbers")
    return max(abs(a - b) for a, b in pairs if a is not None and b is not None)


def kill_and_go_on(folder: Path, launcher: str) -> tuple[list[int], list[int], float]:
    """The jobs that were done when all was killed, those run afterwards, and the seconds of it."""
    process = start(folder, launcher, "killed")
    while len(summaries(folder, "killed")) < JOBS // 3:
        if process.poll() is not None:
            sys.exit(f"the sweep ended by itself with code {process.returncode}")
        sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    sleep(1)
    before = {n: path.stat().st_mtime_ns for n, path in summaries(folder, "killed").items()}
    began = monotonic()
    code = start(folder, launcher, "killed").wait()
    seconds = monotonic() - began
    if code != 0:
        sys.exit(f"the sweep begun again ended with code {code}")
    after = {n: path.stat().st_mtime_ns for n, path in summaries(folder, "killed").items()}
    return sorted(before), sorted(n for n in after if after[n] != before.get(n)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kill", choices=LAUNCHERS, default="joblib", help="the launcher to kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{JOBS} jobs, {os.cpu_count()} processors, one thread a job\n")
        print("launcher          seconds  largest difference of a metric to basic")
        results: dict[str, dict[int, Metrics]] = {}
        for launcher in LAUNCHERS:
            began = monotonic()
            code = start(folder, launcher, launcher).wait()
            seconds = monotonic() - began
            if code != 0:
                sys.exit(f"{launcher} ended with code {code}")
            results[launcher] = metrics(folder, launcher)
            apart = difference(results["basic"], results[launcher])
            print(f"{launcher:<16} {seconds:8.1f}  {apart:g}", flush=True)
            if apart != 0:
                sys.exit(f"expected {launcher} to give the same metrics as basic")
        done, run, seconds = kill_and_go_on(folder, options.kill)
        apart = difference(results["basic"], metrics(folder, "killed"))
        print(f"\n{options.kill}, killed when jobs {done} were done")
        print(f"begun again: jobs {run} ran, {seconds:.1f} s, difference to basic {apart:g}")
        if set(done) & set(run) or len(done) + len(run) != JOBS or apart != 0:
            sys.exit("expected the unfinished jobs alone to run, with the same results")


if __name__ == "__main__":
    main()
