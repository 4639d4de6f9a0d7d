"""Batches by budget against a bag per step: time of an epoch, and what is reached in equal epochs.

    OMP_NUM_THREADS=1 python scripts/benchmark/budget.py

Writes 600 bags of 20 to 1,000 instances (log-uniform) of 128 features into a temporary folder, of
which half have a few instances that are shifted a little, and trains gated attention on them by the
real command line: a bag per step, eight bags per step, and as many as 4,000 instances hold, at most
sixteen. The learning rate is raised with the bags of a step, by the square root of their number.
Time is the median over the epochs of all seeds, as the progress lines give it.
"""

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from accuracy import interval

WIDTH, EPOCHS = 128, 10
VARIANTS = {
    "a bag per step": ["loader.batch_size=1", "loader.max_instances=null", "optimizer.lr=3e-4"],
    "8 bags per step": ["loader.batch_size=8", "loader.max_instances=null", "optimizer.lr=8e-4"],
    "4,000 instances a step": [
        "loader.batch_size=16",
        "loader.max_instances=4000",
        "optimizer.lr=1.2e-3",
    ],
}


def write_bags(folder: Path, count: int = 600) -> None:
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(WIDTH)
    direction *= 4 / np.linalg.norm(direction)
    (folder / "h5_files").mkdir()
    with (folder / "labels.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["slide_id", "label"])
        for i in range(count):
            size = int(np.exp(rng.uniform(np.log(20), np.log(1000))))
            x = rng.standard_normal((size, WIDTH))
            if i % 2:
                x[: max(1, size // 50)] += direction
            with h5py.File(folder / "h5_files" / f"bag_{i}.h5", "w") as file:
                file["features"] = x.astype(np.float16)
                file["coords"] = np.zeros((size, 2), np.int64)
            table.writerow([f"bag_{i}", i % 2])


def train(folder: Path, name: str, overrides: list[str], seeds: int) -> tuple[list[float], ...]:
    """Seconds of the epochs, test AUROC and best validation loss of the seeds."""
    seconds, aurocs, losses = [], [], []
    for seed in range(seeds):
        run = f"{name.replace(' ', '_').replace(',', '')}_{seed}"
        command = [sys.executable, "-m", "milforge.cli.train", "data=feature_bags", *overrides]
        command += [f"data.root={folder}", f"data.labels={folder / 'labels.csv'}", f"run={run}"]
        command += ["model.encoder.hidden=[64]", f"trainer.max_epochs={EPOCHS}", f"seed={seed}"]
        command += ["callbacks.early_stopping=null", "callbacks.figures=null", "logger=csv"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        found = re.findall(r"^epoch +\d+ of \d+ +([\d.]+) s", done.stderr, re.M)
        seconds += [float(each) for each in found]
        summary = json.loads((folder / "logs/train/runs" / run / "summary.json").read_text())
        aurocs.append(summary["metrics"]["test/auroc"])
        losses.append(summary["metrics"]["val/loss"])
    return seconds, aurocs, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print("| | an epoch, s | to a bag per step | best val loss | test AUROC |")
    print("| --- " * 5 + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bags(folder)
        base = None
        for variant, overrides in VARIANTS.items():
            seconds, aurocs, losses = train(folder, variant, overrides, arguments.seeds)
            epoch = statistics.median(seconds)
            base = base or epoch
            cells = [f"{epoch:.2f}", f"{base / epoch:.1f}", interval(losses), interval(aurocs)]
            print(f"| {variant} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
