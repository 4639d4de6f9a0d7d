"""What `scripts/fuzz.py` hands to the commands: what runs wrote, one file of it spoilt.

See `fuzz_inputs.py` for what users bring. Whole runs are made once, in a folder that each input
copies from.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from fuzz_inputs import TINY, Command, Make, write_bags, write_h5
from fuzz_spoil import CELLS, Draw, spoil_bytes, spoil_text, spoil_tree

RUN = Path("logs/train/runs/r")
FOLDS = Path("logs/train/multiruns/cv")
BENCH = Path("logs/train/multiruns/b")
PLAIN = ("callbacks.figures=null", "logger=csv")
BENCHED = ("--models", "simlp,mean_pool", "--seeds", "1", "sweep=b", *TINY, PLAIN[0])


def whole(base: Path) -> Iterator[Command]:
    """The commands that make the whole runs in a folder: all must end well."""
    yield "train", [*TINY, PLAIN[0], "run=r"]
    write_bags(base, write_h5, ".h5", 24)
    bags = on_cohort(base)
    yield "train", ["-m", "split.fold=0,1", "sweep=cv", "trainer.max_epochs=1", *bags]
    copies = ["data.cache=copies", "graph=grid", "graph.cache=graphs"]
    yield "train", [*bags, *copies, "trainer.max_epochs=0", "test=false", "run=copies"]
    yield "bench", list(BENCHED)


def on_cohort(base: Path) -> list[str]:
    """The data of the cross-validation, and what all of its runs have."""
    root = [f"data.root={base}/bags", f"data.labels={base}/labels.csv", "split.folds=2"]
    given = ["data=feature_bags", *root, "split.val_share=0.34"]
    return [*given, "model.encoder.hidden=[4]", "loader.num_workers=0", *PLAIN]


def checkpoint(folder: Path, draw: Draw, base: Path) -> Command:
    """The checkpoint of a run: evaluated, predicted with, gone on from or begun with."""
    shutil.copytree(base / RUN, folder / RUN)
    (folder / RUN / "summary.json").unlink()
    path = RUN / "checkpoints" / "last.ckpt"
    _spoil_checkpoint(folder / path, draw)
    tiny = [*TINY, "trainer.max_epochs=2", PLAIN[0]]
    further = draw.choice(["run=r", f"ckpt_path={path}", f"init_from={path}"])
    if draw.random() < 0.4:
        return "train", [*tiny, further]
    return draw.choice(["evaluate", "predict"]), [f"ckpt_path={path}", "logger=csv", "run=e"]


def checkpoints_of_folds(folder: Path, draw: Draw, base: Path) -> Command:
    """A checkpoint beside another: an ensemble, a map, a calibration."""
    shutil.copytree(base / FOLDS, folder / FOLDS)
    _spoil_checkpoint(folder / FOLDS / "0" / "checkpoints" / "best.ckpt", draw)
    commands: list[Command] = [
        ("predict", [f"ckpt_path={FOLDS}", "out_of_fold=true"]),
        ("evaluate", [f"ckpt_path={FOLDS}", *PLAIN]),
        ("map", [f"ckpt_path={FOLDS}/0", "bags=s0"]),
        ("calibrate", [f"ckpt_path={FOLDS}/0"]),
    ]
    return draw.choice(commands)


def _spoil_checkpoint(path: Path, draw: Draw) -> None:
    if draw.random() < 0.25:
        spoil_bytes(path, draw)
        return
    stored = torch.load(path, weights_only=True)
    deep = draw.choice([stored, stored["milforge"], stored["milforge"]["config"]])
    changed = spoil_tree(deep, draw)
    deep.clear()
    deep.update(changed)
    torch.save(stored, path)


def predictions(folder: Path, draw: Draw, base: Path) -> Command:
    """The predictions of one fold: reported, mapped, calibrated with."""
    shutil.copytree(base / FOLDS, folder / FOLDS)
    path = folder / FOLDS / "0" / "predictions" / "bags.parquet"
    if draw.random() < 0.25:
        spoil_bytes(path, draw)
    else:
        pq.write_table(_other_columns(pq.read_table(path), draw), path)
    page = ["--html", "page.html"] if draw.random() < 0.5 else []
    commands: list[Command] = [
        ("report", [str(FOLDS), "--out", "report", *page]),
        ("report", [str(FOLDS / "1"), "--external", str(FOLDS / "0"), "--out", "report", *page]),
        ("calibrate", [f"ckpt_path={FOLDS}/0"]),
        ("map", [f"ckpt_path={FOLDS}/0", "bags=wrong"]),
    ]
    return commands[draw.choice([0, 0, 0, 1, 2, 2, 3])]


def _other_columns(table: Any, draw: Draw) -> Any:
    """The table with a column or a row that is not as it was, or with other metadata."""
    rows, at = len(table), draw.randrange(table.num_columns)
    name = table.column_names[at]
    how = draw.randrange(6)
    if how == 0:
        return table.drop_columns([name])
    if how == 1:
        metadata = dict(table.schema.metadata or {})
        metadata[draw.choice([b"task", b"class_names"])] = draw.choice([b"", b"\xff", b"a\nb\nc"])
        return table.replace_schema_metadata(metadata)
    if how == 2:
        return pa.concat_tables([table.slice(0, draw.randrange(rows + 1)), table.slice(0, 2)])
    if how == 3:
        return table.append_column(draw.choice([name, "probability_9", "label_9"]), table[at])
    odd = [
        *([[1]] * rows, [{"a": 1}] * rows, [None] * rows, [b"\xff"] * rows, [True] * rows),
        *([draw.choice(CELLS)] * rows, [float("nan")] * rows, [1e308] * rows, [-1] * rows),
        *([2**62] * rows, [0.5] * rows, [None, *table[at].to_pylist()[1:]]),
    ]
    column = pa.array(draw.choice(odd))
    return table.set_column(at, name, column)


def copies(folder: Path, draw: Draw, base: Path) -> Command:
    """A copy of a bag or its graph, which are made again."""
    for name in ("copies", "graphs"):
        shutil.copytree(base / name, folder / name)
    path = draw.choice(sorted(folder.glob(f"{draw.choice(['copies', 'graphs'])}/*.pt")))
    if draw.random() < 0.6:
        spoil_bytes(path, draw)
    else:
        torch.save(spoil_tree(torch.load(path, weights_only=True), draw), path)
    given = ["data.cache=copies", "graph=grid", "graph.cache=graphs", "test=false"]
    return "train", [*on_cohort(base), *given, "trainer.max_epochs=1"]


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
    _spoil_record(path, draw)
    if draw.random() < 0.3:
        return "train", [*TINY, PLAIN[0], "run=r"]
    return "report", ["logs/train", "--out", "report"]


def folds_folder(folder: Path, draw: Draw, base: Path) -> Command:
    """The folders of a cross-validation: reported with a page, mapped, gone on with."""
    shutil.copytree(base / FOLDS, folder / FOLDS)
    names = ("summary.json", "config.yaml", "overrides", "metrics.csv", "splits.csv")
    _spoil_record(folder / FOLDS / "0" / draw.choice(names), draw)
    sweep = ["-m", "split.fold=0,1", "sweep=cv", "trainer.max_epochs=1", *on_cohort(base)]
    page = ["--out", "report", "--html", "page.html"]
    commands: list[Command] = [
        ("report", [str(FOLDS), *page]),
        ("report", [str(FOLDS / "1"), "--external", str(FOLDS / "0"), *page]),
        ("map", [f"ckpt_path={FOLDS}/0", "bags=s0"]),
        ("calibrate", [f"ckpt_path={FOLDS}/0"]),
        ("train", sweep),
    ]
    return commands[draw.choice([0, 0, 0, 1, 2, 3, 4])]


def bench(folder: Path, draw: Draw, base: Path) -> Command:
    """A bench that is done, and begun again."""
    shutil.copytree(base / BENCH, folder / BENCH)
    records = ["summary.json", "config.yaml", "overrides"]
    found = [BENCH / "bench.json", *(BENCH / "models" / "0" / name for name in records)]
    _spoil_record(folder / found[draw.choice([0, 0, 1, 2, 3])], draw)
    return "bench", list(BENCHED)


def _spoil_record(path: Path, draw: Draw) -> None:
    """A file that a run wrote of itself."""
    how = draw.random()
    if how < 0.6 and path.suffix in (".json", ".yaml"):
        tree = yaml.safe_load(path.read_text())
        # Its root, too, may be something else.
        tree = draw.choice([[], None, 3]) if draw.random() < 0.05 else spoil_tree(tree, draw)
        path.write_text(json.dumps(tree) if path.suffix == ".json" else yaml.safe_dump(tree))
    elif how < 0.8:
        spoil_text(path, draw, draw.choice([",", ":", "="]))
    else:
        spoil_bytes(path, draw)


KINDS: dict[str, tuple[int, Make]] = {
    "checkpoint": (70, checkpoint),
    "checkpoints of folds": (50, checkpoints_of_folds),
    "predictions of a run": (60, predictions),
    "copies of bags and graphs": (30, copies),
    "folder of a run": (60, run_folder),
    "folders of folds": (50, folds_folder),
    "folder of a bench": (20, bench),
}
