"""Do maps show what the label comes from? Digits on generated slides, whose places are known.

Draws slides of tissue-like ground on which handwritten digits lie, trains a model to tell those
with a 9, maps the test slides by each score, and prints how well each finds the tiles with a 9
(AUROC within a slide) beside its deletion and insertion areas.

With `--many` it measures time and memory instead: of mapping so many bags, a quarter of them, and
one. They have about 5,000 tiles each, with random numbers as features, in CLAM's files.

    python scripts/benchmark/maps.py --model gated_abmil --folder /tmp/maps
    python scripts/benchmark/maps.py --many 200 --folder /tmp/many
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import h5py
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

TILE, SIDE, SMALL = 64, 14, 16  # pixels of a tile, tiles of a slide, pixels of a feature map
PATCH = 64
SCORES = ("contribution", "gradient", "occlusion", "attention")
TILES, FEATURES, FEW = 5000, 64, 12  # of a bag where many are mapped, float16; bags of the training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gated_abmil")
    parser.add_argument("--slides", type=int, default=90)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--many", type=int, metavar="BAGS", help="measure time and memory of these")
    options = parser.parse_args()
    folder: Path = options.folder
    if options.many:
        measure_many(folder, options.model, options.many, np.random.default_rng(options.seed))
        return
    if not (folder / "labels.csv").is_file():
        draw_slides(folder, options.slides, np.random.default_rng(options.seed))
    run = folder / "logs" / "train" / "runs" / options.model
    if not (run / "summary.json").is_file():
        call(
            folder, "train", "data=feature_bags", "data.root=features", "data.labels=labels.csv",
            "split=random", "task.positive=nine", f"model={options.model}",
            "model/encoder=projection", "model.encoder.hidden=[64]", "trainer.max_epochs=40",
            "optimizer.lr=0.001", "logger=csv", f"run={options.model}", "callbacks.figures=null",
        )  # fmt: skip
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    print(f"test/auroc {metrics['test/auroc']:.3f}\n")
    print("| score | finds the tiles (AUROC) | deletion | insertion |\n| --- | --- | --- | --- |")
    rows = pq.read_table(run / "predictions" / "bags.parquet").to_pylist()
    test = [row["bag_id"] for row in rows if row["part"] == "test"]
    random = {}
    for score in ("occlusion", "gradient"):
        name = f"{options.model}_{score}"
        maps = folder / "logs" / "map" / "runs" / name
        if not (maps / "summary.json").is_file():
            call(
                folder, "map", f"ckpt_path={run}", f"score={score}", "slides=slides",
                f"bags=[{','.join(test)}]", f"run={name}",
                "faithfulness=true", "mpp=0.5",
            )  # fmt: skip
        areas = json.loads((maps / "summary.json").read_text())["metrics"]
        random = {
            curve: areas[f"faithfulness/{curve}/random"] for curve in ("deletion", "insertion")
        }
        found = localisation(folder, maps)
        shown = SCORES if score == "occlusion" else (score,)
        for each in shown:
            if each in found and f"faithfulness/deletion/{each}" in areas:
                print(
                    f"| {each} | {found[each]:.3f} | {areas[f'faithfulness/deletion/{each}']:.2f} "
                    f"| {areas[f'faithfulness/insertion/{each}']:.2f} |"
                )
    print(f"| random | 0.500 | {random['deletion']:.2f} | {random['insertion']:.2f} |")


def draw_slides(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Slides as PNG, the features of their tiles, and the labels."""
    digits = load_digits()
    for name in ("slides", "features"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = ["slide_id,label"]
    for number in range(count):
        positive = number % 2
        name = f"slide_{number:03}"
        slide, tissue = ground(rng)
        places = np.argwhere(tissue)
        chosen = rng.permutation(len(places))[: len(places) // 3]
        nines = set(chosen[: rng.integers(3, 7)].tolist()) if positive else set()
        for place in chosen.tolist():
            wanted = digits.target == 9 if place in nines else digits.target < 9
            image = digits.images[rng.choice(np.flatnonzero(wanted))] / 16
            row, column = places[place] * TILE
            ink = np.kron(image, np.ones((5, 5)))[..., None]
            top, left = row + 12, column + 12
            window = slide[top : top + 40, left : left + 40]
            window[:] = window * (1 - 0.85 * ink) + np.array([60, 20, 110]) * 0.85 * ink
        Image.fromarray(slide.astype(np.uint8)).save(folder / "slides" / f"{name}.png")
        tiles = slide.reshape(SIDE, TILE, SIDE, TILE, 3).swapaxes(1, 2)[tissue]
        step = TILE // SMALL
        features = tiles.reshape(-1, SMALL, step, SMALL, step, 3).mean((2, 4, 5)) / 255
        with h5py.File(folder / "features" / f"{name}.h5", "w") as file:
            file["features"] = features.reshape(len(tiles), -1).astype(np.float32)
            file["coords"] = places[:, ::-1] * TILE
            file["coords"].attrs["patch_size_level0"] = PATCH
            file["inst_label"] = np.array([int(place in nines) for place in range(len(places))])
        rows.append(f"{name},{'nine' if positive else 'other'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def ground(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pink pixels `(H, W, 3)` of a slide, and which of its tiles are tissue."""
    y, x = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2) / (SIDE / 2)
    tissue = x**2 + y**2 + rng.normal(size=(SIDE, SIDE)) * 0.15 < 0.8
    cells = rng.normal(size=(SIDE * TILE // 4, SIDE * TILE // 4))
    texture = np.kron(cells, np.ones((4, 4)))[..., None] * [12, 22, 10]
    colour = np.where(np.kron(tissue, np.ones((TILE, TILE)))[..., None] > 0, [226, 160, 200], 243)
    return np.clip(colour + texture * (colour < 240), 0, 255), tissue


def localisation(folder: Path, maps: Path) -> dict[str, float]:
    """The mean AUROC of each score over the mapped slides that hold a 9."""
    found: dict[str, list[float]] = {}
    for table in sorted(maps.glob("maps/*/tiles.parquet")):
        with h5py.File(folder / "features" / f"{table.parent.name}.h5") as file:
            truth = file["inst_label"][()]
        if truth.any():
            tiles = pq.read_table(table)
            for score in SCORES:
                column = "weight" if score == "attention" else f"{score}_nine"
                names = [name for name in tiles.column_names if name.startswith(column)]
                if names:
                    auroc = roc_auc_score(truth, tiles[names[0]].to_numpy())
                    found.setdefault(score, []).append(float(auroc))
    return {score: float(np.mean(each)) for score, each in found.items()}


def measure_many(folder: Path, model: str, count: int, rng: np.random.Generator) -> None:
    """Prints seconds and memory of mapping all bags, a quarter of them, and a single one."""
    draw_features(folder / "features", count, rng)
    draw_features(folder / "few", FEW, rng)
    rows = [f"slide_{number:03},{number % 2}" for number in range(FEW)]
    (folder / "few.csv").write_text("\n".join(["slide_id,label", *rows]) + "\n")
    train = ("data=feature_bags", "data.root=few", "data.labels=few.csv", "split=random")
    call(
        folder, "train", *train, f"model={model}", "trainer.max_epochs=1", "logger=csv",
        "run=many", "callbacks.figures=null",
    )  # fmt: skip
    print(
        "| bags | tiles | seconds | of the processor | peak MB |\n| --- | --- | --- | --- | --- |"
    )
    for number in (1, count // 4, count):
        names = [f"slide_{i:03}" for i in range(number)]
        began = perf_counter()
        with subprocess.Popen(
            [
                sys.executable, "-m", "milforge.cli.map", "ckpt_path=logs/train/runs/many",
                "data.root=features", "data.labels=null",
                f"bags=[{','.join(names)}]", f"run=many_{number}",
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"milforge-map ended with {process.returncode}")
        tiles = sum(
            pq.read_metadata(each).num_rows
            for each in folder.glob(f"logs/map/runs/many_{number}/maps/*/tiles.parquet")
        )
        print(
            f"| {number} | {tiles:,} | {perf_counter() - began:.0f} "
            f"| {used.ru_utime + used.ru_stime:.0f} | {used.ru_maxrss * 1024 / 1e6:,.0f} |"
        )


def draw_features(root: Path, count: int, rng: np.random.Generator) -> None:
    """Features and coords of so many bags as CLAM writes them."""
    for name in ("pt_files", "h5_files"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = f"slide_{number:03}"
        if (root / "h5_files" / f"{name}.h5").is_file():
            continue
        side = int(np.sqrt(TILES * rng.uniform(1.0, 1.6)))
        places = np.argwhere(rng.random((side, side)) < 0.77)[:, ::-1]
        features = torch.from_numpy(rng.normal(size=(len(places), FEATURES))).half()
        torch.save(features, root / "pt_files" / f"{name}.pt")
        with h5py.File(root / "h5_files" / f"{name}.h5", "w") as file:
            file["coords"] = places * 256


def call(folder: Path, command: str, *arguments: str) -> None:
    """A command in that folder."""
    line = [sys.executable, "-m", f"milforge.cli.{command}", *arguments]
    subprocess.run(line, cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
