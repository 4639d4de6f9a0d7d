"""The attention of several runs over the same test bags, side by side, beside the truth.

    python scripts/compare_attention.py "gated attention=RUN" "Sm early=RUN" --out comparison.png

RUN is the folder of a run (`logs/train/runs/<date_time>`) of `milforge-train`, `-evaluate` or
`-predict` on bags with coords. Runs on the same data with the same `data.seed` have the same bags.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from milforge.plots import BagStrip, plot_attention_comparison


def read_bags(run: Path) -> dict[str, BagStrip]:
    """The bags of a run by bag id, as its `predictions` hold them."""
    paths = [run / "predictions" / f"{name}.parquet" for name in ("bags", "instances")]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"there is no file {path}: give the folder of a run that has ended")
    bags, instances = (pq.read_table(path, filters=[("part", "=", "test")]) for path in paths)
    missing = {"coord_0", "coord_1", "weight"} - set(instances.column_names)
    if missing or instances["weight"].null_count or "label" not in bags.column_names:
        raise ValueError(
            f"{run}: expected one label per bag, coords and attention weights: give a run of a "
            "model with attention on bags with coords"
        )
    names = bags.schema.metadata[b"class_names"].decode().split("\n")
    coords = sorted(name for name in instances.column_names if name.startswith("coord_"))
    table = {name: instances[name].to_numpy() for name in (*coords, "weight")}
    y_inst = instances["label"].fill_null(-1).to_numpy()
    ids = np.asarray(instances["bag_id"])
    bounds = [0, *np.flatnonzero(ids[1:] != ids[:-1]) + 1, len(ids)]
    found = {}
    for row, (start, stop) in zip(bags.to_pylist(), pairwise(bounds), strict=True):
        probabilities = [row[f"probability_{number}"] for number in range(len(names))]
        predicted = int(np.argmax(probabilities))
        found[row["bag_id"]] = BagStrip(
            bag_id=row["bag_id"],
            images=None,
            weights=torch.tensor(table["weight"][start:stop]),
            y="unknown" if row["label"] is None else names[row["label"]],
            prediction=names[predicted],
            probability=probabilities[predicted],
            y_inst=torch.tensor(y_inst[start:stop]),
            coords=torch.from_numpy(np.stack([table[name][start:stop] for name in coords], 1)),
        )
    return found


def choose(bags: dict[str, BagStrip], wanted: list[str], count: int) -> list[str]:
    """The bags to draw: those wanted, or the first with a positive instance, or the first."""
    for name in wanted:
        if name not in bags:
            raise ValueError(f"there is no bag {name!r}; there are {', '.join(list(bags)[:5])} ...")
    positive = [name for name, bag in bags.items() if bag.positive.any()]
    return wanted or (positive or list(bags))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--bags", type=int, default=3, help="how many bags, positive ones first")
    parser.add_argument("--ids", nargs="+", default=[], metavar="ID", help="which bags")
    parser.add_argument("--out", type=Path, default=Path("comparison.png"))
    arguments = parser.parse_args()
    try:
        models = {}
        for text in arguments.runs:
            name, _, run = text.partition("=")
            if not run or name in models:
                raise ValueError(f"expected runs as NAME=RUN, each of another name, got {text!r}")
            models[name] = read_bags(Path(run))
        chosen = choose(next(iter(models.values())), arguments.ids, arguments.bags)
        for name, bags in models.items():
            if lacking := [each for each in chosen if each not in bags]:
                raise ValueError(
                    f"{name}: there is no bag {lacking[0]!r}: give runs on one test set"
                )
        drawn = {name: [bags[each] for each in chosen] for name, bags in models.items()}
        figure = plot_attention_comparison(drawn)
    except ValueError as error:
        sys.exit(f"error: {error}")
    figure.savefig(arguments.out, dpi=150)
    print(arguments.out)


if __name__ == "__main__":
    main()
