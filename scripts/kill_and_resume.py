"""Kills runs with SIGKILL at random moments, has them go on, and compares the weights bit for bit.

    python scripts/kill_and_resume.py
    python scripts/kill_and_resume.py --runs 5 --jobs 2

Each run is killed once or twice, at a random moment from before its first epoch to its test, and
every other time while a checkpoint is being written. Then it goes on by the same command to its
end. Its last checkpoint must hold the weights and the optimiser of a run that nothing disturbed,
its metrics.csv the same rows, its summary the same metrics, and no file of its folder may be cut
off. Exit code 1 where any is not so.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.image
import pyarrow.parquet
import torch

RUNS = Path("logs/train/runs")
EPOCHS = 8
RUN = (
    *("data.train=60", "data.val=20", "data.test=20", "loader.batch_size=2"),
    *(
        "callbacks.early_stopping.patience=3",
        "model.encoder.dropout=0.5",
        "scheduler=plateau",
        "logger=csv",
    ),
    *(f"trainer.max_epochs={EPOCHS}", "loader.num_workers=1", "callbacks.figures.bags=1"),
)
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def start(name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "milforge.cli.train", *RUN, f"run={name}"]
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, env=ENV, stdout=silent, stderr=silent)


def whole(name: str) -> None:
    """Runs to the end."""
    code = start(name).wait()
    if code != 0:
        sys.exit(f"run {name} ended with code {code}: python -m milforge.cli.train {' '.join(RUN)}")


def training_seconds() -> float:
    """How long the run that nothing disturbs trains, from its config to its last checkpoint."""
    run = RUNS / "undisturbed"
    times = [modified(run / name) for name in ("config.yaml", "checkpoints/last.ckpt")]
    return (times[1] - times[0]) / 1e9


def kill_once(name: str, rng: random.Random, seconds: float) -> str | None:
    """Starts the run, kills it, and returns where it was; None where it was done before."""
    process = start(name)
    last = RUNS / name / "checkpoints" / "last.ckpt"
    # So many checkpoints later; and once in eight before the first epoch is done.
    to_see = rng.randrange(EPOCHS)
    written = modified(last)
    while process.poll() is None and to_see > 0:
        if modified(last) != written:
            written, to_see = modified(last), to_see - 1
    if rng.random() < 0.5:
        while process.poll() is None and not any(last.parent.glob(".*.partial")):
            pass
    else:
        time.sleep(rng.uniform(0, 2) * seconds / EPOCHS)
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return stage(RUNS / name)


def modified(path: Path) -> int:
    """When a file was written last; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def stage(run: Path) -> str:
    """How far a killed run had come."""
    if any((run / "checkpoints").glob(".*.partial")):
        return "writing a checkpoint"
    if not (run / "config.yaml").exists():
        return "starting"
    if not (run / "checkpoints" / "last.ckpt").exists():
        return "first epoch"
    return "testing" if (run / "predictions").exists() else "training"


def differences(run: Path, expected: Path) -> list[str]:
    """What is not as it is in the run that nothing disturbed."""
    found: list[str] = []
    for name in ("last.ckpt", "best.ckpt"):
        one, other = (
            torch.load(each / "checkpoints" / name, weights_only=True) for each in (run, expected)
        )
        found += [f"{name}: {key}" for key in KEPT if not same(one[key], other[key])]
    rows, wanted = (list(csv.reader((r / "metrics.csv").open(newline=""))) for r in (run, expected))
    found += ["metrics.csv"] * (rows != wanted)
    metrics, wanted = (
        json.loads((each / "summary.json").read_text())["metrics"] for each in (run, expected)
    )
    found += ["summary.json"] * (metrics != wanted)
    return found


KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def cut_off(run: Path) -> list[str]:
    """The files of a folder that cannot be read to their end, or should not be there."""
    readers = {
        ".ckpt": lambda path: torch.load(path, weights_only=True),
        ".json": lambda path: json.loads(path.read_text()),
        ".png": matplotlib.image.imread,
        ".parquet": pyarrow.parquet.read_table,
    }
    bad = []
    for path in filter(Path.is_file, run.rglob("*")):
        try:
            readers.get(path.suffix, Path.read_bytes)(path)
        except Exception as error:
            bad.append(f"{path}: {error}")
        if path.suffix == ".partial" or path.stat().st_size == 0:
            bad.append(f"{path} is left over")
    return bad


def try_one(number: int, seed: int, seconds: float) -> tuple[list[str], list[str]]:
    """Where a run was killed, and what was wrong with it in the end."""
    rng = random.Random(f"{seed} {number}")
    name = f"killed_{number}"
    moments = []
    for _ in range(rng.choice((1, 2))):
        moment = kill_once(name, rng, seconds)
        if moment is not None:
            moments.append(moment)
    whole(name)
    run = RUNS / name
    return moments, [*differences(run, RUNS / "undisturbed"), *cut_off(run)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    for folder in RUNS.glob("killed_*"):
        shutil.rmtree(folder)
    shutil.rmtree(RUNS / "undisturbed", ignore_errors=True)
    whole("undisturbed")
    seconds = training_seconds() * arguments.jobs
    kills, bad = 0, 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        tries = pool.map(
            lambda number: try_one(number, arguments.seed, seconds), range(arguments.runs)
        )
        for number, (moments, wrong) in enumerate(tries):
            kills += len(moments)
            bad += bool(wrong)
            outcome = "; ".join(wrong) if wrong else "as if undisturbed"
            print(
                f"run {number}: killed while {', '.join(moments) or 'done'}: {outcome}", flush=True
            )
    good = arguments.runs - bad
    print(f"{good} of {arguments.runs} runs, killed {kills} times, are as if undisturbed")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
