"""What `scripts/fuzz.py` hands to the commands: data and configs, one file of them spoilt.

An input is a folder and a command line. Each kind begins with a whole one, which the command takes,
and spoils a file of it. See `fuzz_runs.py` for the files that runs write.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from fuzz_spoil import Draw, odd_h5, odd_npy, odd_pt, spoil_bytes, spoil_text, spoil_tree

BAGS = 8
TINY = ("data.train=8", "data.val=6", "data.test=6", "trainer.max_epochs=1", "logger=csv")
SHORT = ("trainer.max_epochs=0", "test=false", "logger=csv", "callbacks.figures=null")
ON_DISK = ("data=feature_bags", "data.root=bags", "split.folds=2", "loader.num_workers=0")

Command = tuple[str, list[str]]
Make = Callable[[Path, Draw, Path], Command]


def write_bags(
    folder: Path, write: Callable[[Path, np.ndarray], None], suffix: str, bags: int = BAGS
) -> None:
    """A folder of small bags and the table of their labels."""
    rng = np.random.default_rng(0)
    (folder / "bags").mkdir()
    rows = ["slide_id,label"]
    for number in range(bags):
        x = rng.normal(size=(5 + number % 3, 4)).astype(np.float32)
        write(folder / "bags" / f"s{number}{suffix}", x)
        rows.append(f"s{number},{'no' if number % 2 else 'yes'}")
    (folder / "labels.csv").write_text("\n".join(rows))


def write_h5(path: Path, x: np.ndarray) -> None:
    """Features and coords, as most tools write them."""
    with h5py.File(path, "w") as file:
        file["features"] = x
        file["coords"] = np.stack([np.arange(len(x)), np.zeros(len(x))], 1).astype(np.int64) * 256
        file["coords"].attrs["patch_size_level0"] = 256


def write_npy(path: Path, x: np.ndarray) -> None:
    """The features alone."""
    np.save(path, x)


def write_pt(path: Path, x: np.ndarray) -> None:
    """The features alone."""
    torch.save(torch.from_numpy(x), path)


FILES = {".h5": (write_h5, odd_h5), ".npy": (write_npy, odd_npy), ".pt": (write_pt, odd_pt)}


def bag_file(suffix: str) -> Callable[[Path, Draw, Path], Command]:
    """A folder of bags, one of them spoilt."""

    def make(folder: Path, draw: Draw, _: Path) -> Command:
        write, odd = FILES[suffix]
        write_bags(folder, write, suffix)
        path = folder / "bags" / f"s0{suffix}"
        spoil_bytes(path, draw) if draw.random() < 0.5 else odd(path, draw)
        if draw.random() < 0.15:
            return "train", [*ON_DISK, "data.labels=labels.csv", *SHORT]
        return "inspect", ["bags", "--labels", "labels.csv", "--deep"]

    return make


def instances(folder: Path, draw: Draw, _: Path) -> Command:
    """A table with a row per instance."""
    rng = np.random.default_rng(0)
    lines = ["bag_id,label,f0,f1,f2"]
    for row in range(24):
        values = ",".join(f"{value:.3f}" for value in rng.normal(size=3))
        lines.append(f"m{row // 3},{row // 3 % 2},{values}")
    path = folder / "table.csv"
    path.write_text("\n".join(lines))
    path = _other_table(path, draw)
    if draw.random() < 0.3:
        return "train", ["data=feature_bags", f"data.root={path.name}", "split.folds=2", *SHORT]
    return "inspect", [path.name, "--deep"]


def labels(folder: Path, draw: Draw, _: Path) -> Command:
    """A table with a row per bag."""
    write_bags(folder, write_npy, ".npy")
    path = _other_table(folder / "labels.csv", draw)
    if draw.random() < 0.3:
        return "train", [*ON_DISK, f"data.labels={path.name}", *SHORT]
    return "inspect", ["bags", "--labels", path.name]


def other_labels(folder: Path, draw: Draw, _: Path) -> Command:
    """A table of times, numbers, grades or several labels."""
    write_bags(folder, write_npy, ".npy")
    rng = np.random.default_rng(0)
    lines = ["slide_id,case_id,time,event,number,grade,a,b"]
    for bag in range(BAGS):
        grade, one, other = bag % 3, bag % 2, bag // 2 % 2
        lines.append(f"s{bag},p{bag},{bag + 1}.5,{one},{rng.normal():.2f},{grade},{one},{other}")
    (folder / "labels.csv").write_text("\n".join(lines))
    path = _other_table(folder / "labels.csv", draw)
    tasks: list[tuple[str, str]] = [
        *(("cox", "[time,event]"), ("weibull", "[time,event]")),
        *(("survival_discrete", "[time,event]"), ("regression", "number")),
        *(("ordinal", "grade"), ("multilabel", "[a,b]"), ("auto", "a")),
    ]
    task, columns = draw.choice(tasks)
    given = [f"data.labels={path.name}", f"task={task}", f"data.label_column={columns}"]
    if draw.random() < 0.3:
        given.append(f"data.covariates={draw.choice(['[number,grade]', '[grade]', '[case_id]'])}")
    return "train", [*ON_DISK, *given, "data.bag=" + draw.choice(["slide", "patient"]), *SHORT]


def _other_table(path: Path, draw: Draw) -> Path:
    """The table spoilt as text, or as Parquet with columns of odd types, or its bytes."""
    how = draw.randrange(10)
    if how < 6:
        spoil_text(path, draw)
        return path
    if how == 6:
        spoil_bytes(path, draw)
        return path
    cells = [line.split(",") for line in path.read_text().split("\n")]
    columns: dict[str, Any] = {
        name: pa.array([row[i] for row in cells[1:]]) for i, name in enumerate(cells[0])
    }
    rows = len(cells) - 1
    odd = [
        *([[1]] * rows, [{"a": 1}] * rows, [None] * rows, [b"\xff"] * rows, [True] * rows),
        *(np.arange(rows).astype("datetime64[s]"), np.full(rows, np.nan), [1e308] * rows),
    ]
    if how < 9:
        columns[draw.choice(cells[0])] = pa.array(draw.choice(odd))
    parquet = path.with_suffix(".parquet")
    pq.write_table(pa.table(columns), parquet)
    if how == 9:
        spoil_bytes(parquet, draw)
    return parquet


def splits(folder: Path, draw: Draw, _: Path) -> Command:
    """A split file, in one of two forms."""
    write_bags(folder, write_npy, ".npy")
    path = folder / "splits.csv"
    if draw.random() < 0.5:
        path.write_text("train,val,test\ns0,s2,s4\ns1,s3,s5\ns6,,\ns7,,")
    else:
        parts = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
        path.write_text("bag_name,split\n" + "\n".join(f"s{i},{p}" for i, p in enumerate(parts)))
    spoil_text(path, draw) if draw.random() < 0.8 else spoil_bytes(path, draw)
    given = ["split=files", "split.path=splits.csv"]
    bags = [each for each in ON_DISK if not each.startswith("split")]
    return "train", [*bags, "data.labels=labels.csv", *given, *SHORT]


def experiment(folder: Path, draw: Draw, _: Path) -> Command:
    """A user's own experiment."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    path = folder / "conf" / "experiment" / "mine.yaml"
    tree = {
        "defaults": [{"override /model": "sm_abmil"}, {"override /graph": "chain"}],
        "seed": 3,
        "tags": ["a"],
        "data": {"mean_size": 6},
        "model": {"pool": {"att_dim": 8}},
        "optimizer": {"lr": 1e-3},
        "callbacks": {"figures": None, "early_stopping": {"patience": 3}},
        "metrics": {"f2": {"_target_": "torchmetrics.classification.BinaryF1Score"}},
    }
    if draw.random() < 0.6:
        text = yaml.safe_dump(spoil_tree(tree, draw), allow_unicode=True)
        path.write_text(f"# @package _global_\n{text}")
    else:
        path.write_text(f"# @package _global_\n{yaml.safe_dump(tree)}")
        spoil_bytes(path, draw) if draw.random() < 0.3 else spoil_text(path, draw, ":")
    return "train", ["--config-dir=conf", "experiment=mine", *TINY, "callbacks.figures=null"]


def image(folder: Path, draw: Draw, _: Path) -> Command:
    """A folder of large images, one of them spoilt."""
    import tifffile
    import zarr

    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    kind = draw.choice([".npy", ".tif", ".zarr"])
    for number in range(BAGS):
        path = folder / "images" / f"s{number}{kind}"
        if kind == ".npy":
            np.save(path, pixels)
        elif kind == ".tif":
            tifffile.imwrite(path, pixels, tile=(16, 16), photometric="rgb")
        else:
            zarr.create_array(str(path), data=pixels, chunks=(32, 32, 3))
    path = folder / "images" / f"s0{kind}"
    if kind == ".zarr":
        files = sorted(each for each in path.rglob("*") if each.is_file())
        file = draw.choice([path / "zarr.json", *files])
        if file.name == "zarr.json" and draw.random() < 0.6:
            file.write_text(json.dumps(spoil_tree(json.loads(file.read_text()), draw)))
        else:
            spoil_bytes(file, draw)
    elif kind == ".npy" and draw.random() < 0.5:
        odd_npy(path, draw)
    else:
        spoil_bytes(path, draw)
    rows = [f"s{number},{number % 2}" for number in range(BAGS)]
    (folder / "labels.csv").write_text("\n".join(["slide_id,label", *rows]))
    given = ["data=image_folder", "data.root=images", "data.labels=labels.csv", "split.folds=2"]
    view = ["data.low_scale=0.5", "model=attention_sampling", "loader.num_workers=0"]
    return "train", [*given, *view, *SHORT]


KINDS: dict[str, tuple[int, Make]] = {
    "HDF5 of a bag": (90, bag_file(".h5")),
    ".npy of a bag": (50, bag_file(".npy")),
    ".pt of a bag": (60, bag_file(".pt")),
    "table of instances": (60, instances),
    "table of labels": (60, labels),
    "table of other labels": (40, other_labels),
    "split file": (40, splits),
    "large image": (50, image),
    "experiment": (50, experiment),
}
