"""Bags from disk against the same bags from memory: the same test metrics, bit for bit.

    python scripts/benchmark/disk_bags.py --root FOLDER_OF_MNIST_IDX_FILES
    python scripts/benchmark/disk_bags.py            # scikit-learn's digits, without a download

Draws MNIST-bags, writes them as CLAM does (`h5_files/<bag>.h5`, a table of labels, a split file),
and trains the same network on both through the real command line, on one thread.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import torch
from torch import Tensor

from milforge.data import SPLITS, BagSplits, Split, digits_bags, mnist_bags, write_split

METRICS = ("val/loss", "val/auroc", "test/auroc", "test/accuracy", "test/loss", "test/inst_auroc")


def write_clam(splits: BagSplits, folder: Path) -> None:
    """The bags as features of CLAM, their images as vectors."""
    (folder / "h5_files").mkdir(parents=True)
    names: dict[str, list[str]] = {}
    with (folder / "labels.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["case_id", "slide_id", "label"])
        for part in SPLITS:
            bags = getattr(splits, part)
            names[part] = [f"{part}_{i:04d}" for i in range(len(bags))]
            for i, name in enumerate(names[part]):
                bag = bags[i]
                assert isinstance(bag.x, Tensor)
                table.writerow([f"patient_{name}", name, splits.class_names[int(bag.y)]])
                with h5py.File(folder / "h5_files" / f"{name}.h5", "w") as file:
                    file["features"] = bag.x.flatten(1).numpy()
                    file["coords"] = torch.zeros(len(bag), 2, dtype=torch.int64).numpy()
                    file["inst_label"] = bag.y_inst.numpy()
    write_split(Split(*(tuple(names[part]) for part in SPLITS)), folder / "splits_0.csv")


def train(folder: Path, sweep: str, overrides: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "milforge.cli.train", *overrides, "logger=csv"]
    command += [f"hydra.run.dir={folder / sweep}", "callbacks.figures.bags=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    metrics: dict[str, float] = json.loads((folder / sweep / "summary.json").read_text())["metrics"]
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", help="folder of the MNIST IDX files; none: scikit-learn's digits")
    parser.add_argument("--bags", type=int, default=200, help="training bags")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    counts = {"train": arguments.bags, "val": arguments.bags // 2, "test": arguments.bags}
    drawn = (
        digits_bags(**counts, seed=0)
        if arguments.root is None
        else mnist_bags(arguments.root, **counts, seed=0)
    )
    shared = [f"trainer.max_epochs={arguments.epochs}", "seed=0"]
    memory = [f"data.{name}={count}" for name, count in counts.items()]
    memory.append("loader.batch_size=8")
    if arguments.root is None:
        memory.append("data=digits_bags")
    else:
        memory += ["data=mnist_bags", f"data.root={Path(arguments.root).resolve()}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clam(drawn, folder / "features")
        first, second = drawn.class_names
        disk = [
            "data=feature_bags",
            f"data.root={folder / 'features'}",
            f"data.labels={folder / 'features' / 'labels.csv'}",
            "split=files",
            f"split.path={folder / 'features'}",
            "split.fold=0",
            f"task.class_names=[{first},'{second}']",
            "standardise=null",
            "loader.max_instances=null",
            "loader.batch_size=8",
        ]
        found = {
            "memory": train(folder, "memory", [*shared, *memory]),
            "disk": train(folder, "disk", [*shared, *disk]),
        }
    print("| metric | from memory | from disk | equal |")
    print("| --- | --- | --- | --- |")
    for metric in METRICS:
        one, other = found["memory"][metric], found["disk"][metric]
        print(f"| {metric} | {one!r} | {other!r} | {'yes' if one == other else 'NO'} |")
    if any(found["memory"][metric] != found["disk"][metric] for metric in METRICS):
        sys.exit("the results differ")


if __name__ == "__main__":
    main()
