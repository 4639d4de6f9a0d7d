"""What `scripts/fuzz.py` hands to the commands: whole inputs of each kind, and ways to spoil them.

An input is a folder and a command line. Each kind begins with a whole one, which the command takes,
and changes it by the draws of a generator: bytes of a file, lines and cells of a text, one value of
a tree of values, or what the arrays of a file are.
"""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

BAGS = 8
TINY = ("data.train=8", "data.val=6", "data.test=6", "trainer.max_epochs=1", "logger=csv")
SHORT = ("trainer.max_epochs=0", "test=false", "logger=csv", "callbacks.figures=null")
ON_DISK = ("data=feature_bags", "data.root=bags", "split.folds=2", "loader.num_workers=0")
RUN = Path("logs/train/runs/r")

# What stands where a number, a word or a collection was expected.
VALUES = [
    *(None, True, False, 0, -1, 1.5, 10**12, 10**25, -(10**12), float("nan"), float("inf"), 1e-300),
    *("", " ", "word", "null", "../../x", "${seed}", "${nothing}", "1e5", "é\u200b", "x" * 5000),
    *([], [1], ["a", None], {}, {"a": 1}, {"_target_": "os.getcwd"}, [[[]]], {1: {2: 3}}),
]
CELLS = ["", "NaN", "?", "1e999", "-1", '"', ",", ";", "\0", "\r", "é", "=1+1", "0" * 400, "\ufeff"]

Draw = random.Random
Command = tuple[str, list[str]]


def spoil_bytes(path: Path, draw: Draw) -> None:
    """Turns bits over, cuts off, empties, doubles or fills in a part."""
    content = bytearray(path.read_bytes())
    at = draw.randrange(len(content))
    size = draw.choice([1, 4, 64, 1000])
    how = draw.randrange(6)
    if how == 0:
        for _ in range(draw.choice([1, 8, 64])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif how == 1:
        del content[at:]
    elif how == 2:
        content[at : at + size] = bytes(len(content[at : at + size]))
    elif how == 3:
        content[at:at] = content[at : at + size]
    elif how == 4:
        content[at : at + size] = draw.randbytes(size)
    else:
        # Headers and tables of contents stand at the ends.
        for _ in range(4):
            content[draw.randrange(min(200, len(content)))] = draw.randrange(256)
            content[-1 - draw.randrange(min(200, len(content)))] = draw.randrange(256)
    path.write_bytes(content)


def spoil_text(path: Path, draw: Draw, mark: str = ",") -> None:
    """Changes, doubles, removes or exchanges lines and cells."""
    lines = path.read_text().split("\n")
    for _ in range(draw.choice([1, 1, 3])):
        at = draw.randrange(len(lines))
        how = draw.randrange(5)
        if how == 0:
            cells = lines[at].split(mark)
            cells[draw.randrange(len(cells))] = draw.choice(CELLS)
            lines[at] = mark.join(cells)
        elif how == 1:
            lines.insert(at, lines[draw.randrange(len(lines))])
        elif how == 2 and len(lines) > 1:
            del lines[at]
        elif how == 3:
            lines[at] = lines[at][draw.randrange(len(lines[at]) + 1) :]
        else:
            lines[0] = lines[0].replace(draw.choice(lines[0].split(mark)), draw.choice(CELLS), 1)
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def spoil_tree(tree: Any, draw: Draw) -> Any:
    """Plain data with one value in it exchanged, or one key left out."""
    tree = copy.deepcopy(tree)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in list(keys):
            places.append((node, key))
            if isinstance(node[key], dict | list) and len(node[key]) < 200:
                collect(node[key])

    collect(tree)
    node, key = draw.choice(places)
    if isinstance(node, dict) and draw.random() < 0.25:
        del node[key]
    else:
        node[key] = draw.choice(VALUES)
    return tree


def write_bags(folder: Path, write: Callable[[Path, np.ndarray], None], suffix: str) -> None:
    """A folder of small bags and the table of their labels."""
    rng = np.random.default_rng(0)
    (folder / "bags").mkdir()
    rows = ["slide_id,label"]
    for number in range(BAGS):
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


def odd_array(draw: Draw) -> Any:
    """An array of a kind that features seldom are."""
    shape = draw.choice([(), (0,), (5,), (0, 4), (5, 0), (5, 4), (5, 4), (1, 5, 4), (5, 4, 3)])
    kind = draw.choice(["f8", ">f4", "f2", "i8", "u1", "?", "c8", "S5", "m8[s]", "nan", "f4,i4"])
    if kind == "nan":
        return np.full(shape, draw.choice([np.nan, np.inf, 1e38]), np.float64)
    return np.ones(shape).astype(kind if "," not in kind else "f4").astype(kind)


def odd_h5(path: Path, draw: Draw) -> None:
    """The same file with another array, attribute or link in it."""
    with h5py.File(path, "a") as file:
        key = draw.choice(["features", "coords", "inst_label"])
        how = draw.randrange(6)
        if key in file and how != 3:
            del file[key]
        if how == 0:
            huge = draw.choice([(2**31, 2**31), (2**40, 4), (2**62, 1), (5, 2**33)])
            file.create_dataset(key, huge, "f4", chunks=(1, 1))
        elif how == 1:
            file.create_group(key)
        elif how == 2:
            file[key] = h5py.SoftLink(draw.choice([f"/{key}", "/", "coords", "nothing/there"]))
        elif how == 3:
            file.attrs[draw.choice(["patch_size_level0", "unit", "tile_size_um"])] = odd_array(draw)
            file["coords"].attrs["patch_size_level0"] = draw.choice(["x", -1.0, np.nan, [1, 2]])
        elif how == 4:
            file[key] = draw.choice(["text", [b"a", b"b"], h5py.Empty("f4")])
        else:
            array = odd_array(draw)
            if array.dtype.kind != "m":  # HDF5 has no such type
                file[key] = array


def odd_pt(path: Path, draw: Draw) -> None:
    """Another object, or a tensor of another kind."""
    x = torch.ones(5, 4)
    odd = [
        *([x], {"features": x, "other": [1]}, {"a": {"b": x}}, {1: x}, {}, None, 3, "text", (x, x)),
        *(x.to_sparse(), x.to_sparse_csr(), x.bool(), x.to(torch.complex64), x.bfloat16()),
        *(x[:0], x[0], x[None], x.mT, torch.empty(5, 4, device="meta"), torch.nn.Parameter(x)),
        *(x.to(torch.float8_e4m3fn), torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)),
        *(torch.ones(1, 1).expand(2**40, 4), torch.ones(1, 4).expand(2**20, 4), x * torch.nan),
        *(torch.nested.nested_tensor([x, x]), {"features": x, "coords": x}, Exception),
    ]
    torch.save(draw.choice(odd), path)


def odd_npy(path: Path, draw: Draw) -> None:
    """An array of another kind, or a header that says something else."""
    if draw.random() < 0.6:
        array = odd_array(draw)
        np.save(path, array.astype(object) if draw.random() < 0.1 else array, allow_pickle=True)
        return
    shape = draw.choice(["(-1, 4)", "(5, 2**70)", f"({2**40}, 4)", "(True, 4)", "5", "(5.0, 4)"])
    kind = draw.choice(["<f4", "<f4", "O", "|V0", "<U0", "[('a', '<f4')]", "nonsense"])
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())


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


def checkpoint(folder: Path, draw: Draw, base: Path) -> Command:
    """The checkpoint of a run, evaluated or gone on from."""
    run = folder / RUN
    run.mkdir(parents=True)
    for name in ("config.yaml", "overrides"):
        (run / name).write_bytes((base / RUN / name).read_bytes())
    (run / "checkpoints").mkdir()
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes((base / RUN / "checkpoints" / "last.ckpt").read_bytes())
    if draw.random() < 0.25:
        spoil_bytes(path, draw)
    else:
        stored = torch.load(path, weights_only=True)
        deep = draw.choice([stored, stored["milforge"], stored["milforge"]["config"]])
        changed = spoil_tree(deep, draw)
        deep.clear()
        deep.update(changed)
        torch.save(stored, path)
    if draw.random() < 0.3:
        return "train", [*TINY, "trainer.max_epochs=2", "callbacks.figures=null", "run=r"]
    return "evaluate", [f"ckpt_path={RUN}/checkpoints/last.ckpt", "logger=csv", "run=e"]


def run_folder(folder: Path, draw: Draw, base: Path) -> Command:
    """The folder of a run, reported or gone on with."""
    for name in ("r", "whole"):
        run = folder / RUN.with_name(name)
        run.mkdir(parents=True)
        for file in (base / RUN).iterdir():
            if file.is_file():
                (run / file.name).write_bytes(file.read_bytes())
    names = ("summary.json", "config.yaml", "overrides", "metrics.csv", "multirun.yaml")
    path = folder / RUN / draw.choice(names)
    if path.name == "multirun.yaml":
        path = path.parent.with_name(path.name)
        path.write_bytes((folder / RUN / "config.yaml").read_bytes())
    how = draw.random()
    if how < 0.6 and path.suffix in (".json", ".yaml"):
        tree = spoil_tree(yaml.safe_load(path.read_text()), draw)
        path.write_text(json.dumps(tree) if path.suffix == ".json" else yaml.safe_dump(tree))
    elif how < 0.8:
        spoil_text(path, draw, draw.choice([",", ":", "="]))
    else:
        spoil_bytes(path, draw)
    if draw.random() < 0.3:
        return "train", [*TINY, "callbacks.figures=null", "run=r"]
    return "report", ["logs/train", "--out", "report"]


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


KINDS: dict[str, tuple[int, Callable[[Path, Draw, Path], Command]]] = {
    "HDF5 of a bag": (90, bag_file(".h5")),
    ".npy of a bag": (50, bag_file(".npy")),
    ".pt of a bag": (60, bag_file(".pt")),
    "table of instances": (60, instances),
    "table of labels": (60, labels),
    "split file": (40, splits),
    "large image": (50, image),
    "experiment": (50, experiment),
    "checkpoint": (70, checkpoint),
    "folder of a run": (60, run_folder),
}
