"""Accuracy of the shipped experiments over seeds, through the real command line.

    python scripts/benchmark/accuracy.py default
    python scripts/benchmark/accuracy.py keras_mil --root FOLDER_OF_MNIST_IDX_FILES
    python scripts/benchmark/accuracy.py mnist_bags --root FOLDER_OF_MNIST_IDX_FILES
    python scripts/benchmark/accuracy.py digits_grid
    python scripts/benchmark/accuracy.py digits_chain
    python scripts/benchmark/accuracy.py megapixel_digits
    python scripts/benchmark/accuracy.py two_stream_digits

Each is a sweep under logs/train/multiruns; run again, it reads the finished ones and runs the
rest. The table gives the mean over seeds and its 95% interval (Student's t).
"""

import argparse
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t

SWEEPS = Path("logs/train/multiruns")


@dataclass
class Study:
    """What is run, and which metrics are reported."""

    overrides: list[str]
    seeds: int
    metrics: list[str]
    variants: list[list[str]]


# `none` is plain attention with the activation of the smoothed ones.
GRAPH_MODELS = [
    ["model=abmil"],
    ["model=gated_abmil"],
    ["model=sm_abmil", "model.pool.sm_where=none"],
    *(
        ["model=sm_abmil", f"model.pool.sm_where={where}", f"model.pool.sm_mode={mode}"]
        for where in ("early", "mid", "late")
        for mode in ("approx", "exact")
    ),
]
GRAPH_METRICS = ["test/auroc", "test/inst_auroc", "test/inst_ap"]
STUDIES = {
    "digits_grid": Study(["data=digits_grid"], 5, GRAPH_METRICS, GRAPH_MODELS),
    "digits_chain": Study(["data=digits_chain"], 5, GRAPH_METRICS, GRAPH_MODELS),
    "megapixel_digits": Study(
        ["experiment=megapixel_digits"],
        5,
        ["test/accuracy", "test/attention_entropy"],
        [
            ["model.estimator=published"],
            ["model.estimator=ordered"],
            ["model.estimator=unordered"],
            ["model.replace=true"],
        ],
    ),
    "two_stream_digits": Study(
        ["experiment=two_stream_digits"],
        5,
        ["test/auroc", "test/accuracy", "test/weight_pixels", "test/weight_gradient"],
        [
            ["data.streams=[pixels]"],
            ["data.streams=[gradient]"],
            ["model/fusion=concat", "~model.fusion.dim"],
            *(
                [f"model/fusion={fusion}"]
                for fusion in (
                    "scalar",
                    "convex",
                    "elementwise",
                    "attention",
                    "adaptive",
                )
            ),
            ["model/fusion=adaptive", "model.fuse=bags"],
        ],
    ),
    "default": Study([], 5, ["test/auroc", "test/inst_auroc", "test/accuracy"], [[]]),
    "keras_mil": Study(
        ["experiment=keras_mil"],
        10,
        ["val/accuracy", "test/accuracy", "test/auroc", "test/inst_auroc"],
        [[]],
    ),
    "mnist_bags": Study(
        ["experiment=mnist_bags"],
        5,
        ["test/auroc", "test/inst_auroc"],
        [
            [f"data.train={count}", *head]
            for head in ([], ["model.pool.gated=true"])
            for count in (50, 100, 200, 400)
        ],
    ),
}


def run(study: Study, name: str, root: str | None) -> None:
    data = ["logger=csv", "callbacks.figures.bags=0"]
    if root is not None:
        data.append(f"data.root={Path(root).resolve()}")
    for variant in study.variants:
        sweep = sweep_name(name, variant)
        left = [
            str(seed)
            for seed in range(study.seeds)
            if not (SWEEPS / sweep / f"seed{seed}" / "summary.json").is_file()
        ]
        if left:
            overrides = [*study.overrides, *data, *variant, f"seed={','.join(left)}"]
            folders = [f"sweep={sweep}", "hydra.sweep.subdir=seed${seed}"]
            command = [sys.executable, "-m", "milforge.cli.train", "-m", *overrides, *folders]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def sweep_name(name: str, variant: list[str]) -> str:
    words = [re.split("[./]", word)[-1].replace("=", "-").strip("]") for word in variant]
    return "_".join([name, *words]).replace("[", "")


def report(study: Study, name: str) -> None:
    print(f"| {name} | runs | {' | '.join(study.metrics)} | seconds a run |")
    print("| --- " * (len(study.metrics) + 3) + "|")
    for variant in study.variants:
        files = sorted((SWEEPS / sweep_name(name, variant)).glob("*/summary.json"))
        summaries = [json.loads(file.read_text()) for file in files]
        if not summaries:
            continue
        found = [
            [s["metrics"][metric] for s in summaries if metric in s["metrics"]]
            for metric in study.metrics
        ]
        cells = [interval(values) if values else "–" for values in found]  # noqa: RUF001
        seconds = np.median([s["wall_seconds"] for s in summaries])
        label = " ".join(variant) or "as shipped"
        print(f"| {label} | {len(summaries)} | {' | '.join(cells)} | {seconds:.0f} |")


def interval(values: list[float]) -> str:
    """Mean and half the width of its 95% interval."""
    n = len(values)
    if n < 2:
        return f"{values[0]:.4f}"
    half = t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return f"{np.mean(values):.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--root", help="folder of the MNIST IDX files")
    parser.add_argument("--report-only", action="store_true", help="print what is finished")
    arguments = parser.parse_args()
    study = STUDIES[arguments.study]
    if not arguments.report_only:
        run(study, arguments.study, arguments.root)
    report(study, arguments.study)


if __name__ == "__main__":
    main()
