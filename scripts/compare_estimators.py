"""The estimators of attention sampling compared: accuracy and entropy of the attention over steps.

    python scripts/benchmark/accuracy.py megapixel_digits
    python scripts/compare_estimators.py logs/train/multiruns/megapixel_digits_*

FOLDER is a run, a sweep, or a folder above them. The runs may differ in the estimator, in drawing
with replacement and in the seed alone, and must have been logged with `logger=csv`; those that are
not finished are left out. Curves are of the validation images: the mean over seeds, and its 95%
interval (Student's t) as a band. The table is of the test images, at the epoch that was best in
validation.
"""

import argparse
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray
from scipy import stats

from milforge.plots.style import (
    BLUE,
    GREEN,
    PALE,
    PURPLE,
    TEXT,
    VERMILION,
    new_figure,
    tidy,
)
from milforge.report.runs import Run
from milforge.report.survey import survey

COLOURS = {
    "published": VERMILION,
    "ordered": GREEN,
    "unordered": BLUE,
    "with replacement": PURPLE,
}
# Title, unit, what is multiplied by for it, and where the axis ends.
CURVES = {
    "val/accuracy": ("validation accuracy", "%", 100, 100),
    "val/attention_entropy": ("entropy of the attention", "nats", 1, None),
}
# What decides how a run goes, and what in it may differ.
SECTIONS = ("data.", "loader.", "task.", "loss.", "model.", "optimizer.", "scheduler.", "trainer.")
FREE = {"model.estimator", "model.replace", "data.seed", "trainer.default_root_dir"}


class Curve(NamedTuple):
    """A metric of several runs: `steps` `(T,)`, and `values` `(runs, T)`."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


def variant_of(run: Run) -> str:
    """What a run is a run of.

    Raises:
        ValueError: where it is no run of attention sampling.
    """
    estimator = run.config.get("model.estimator")
    if estimator not in COLOURS:
        raise ValueError(
            f"{run.folder}: expected a run of attention sampling, got one of "
            f"{run.config.get('model._target_')}: leave it out"
        )
    return "with replacement" if run.config["model.replace"] == "true" else estimator


def group(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs by variant, each by seed.

    Raises:
        ValueError: where there is none, two are of the same variant and seed, or they differ in
            more than these.
    """
    if not runs:
        raise ValueError("expected at least one finished run, got none: wait for one to end")
    found: dict[str, dict[str, Run]] = {name: {} for name in COLOURS}
    for run in runs:
        seeds = found[variant_of(run)]
        seed = run.config["seed"]
        if seed in seeds:
            raise ValueError(
                f"{run.folder}: expected one run a variant and seed, got {seeds[seed].folder} too: "
                "leave one out"
            )
        seeds[seed] = run
        for key in sorted(set(run.config) | set(runs[0].config)):
            here, there = run.config.get(key), runs[0].config.get(key)
            if here != there and key.startswith(SECTIONS) and key not in FREE:
                raise ValueError(
                    f"{run.folder}: expected {key}={there}, as in {runs[0].folder}, got {here}: "
                    "give runs that differ in estimator, replacement and seed alone"
                )
    return {
        name: [seeds[seed] for seed in sorted(seeds, key=int)]
        for name, seeds in found.items()
        if seeds
    }


def read_curve(path: Path, metric: str) -> list[tuple[int, float]]:
    """Optimiser step and value of a metric, wherever `metrics.csv` has one.

    Raises:
        ValueError: where there is no such file, or it does not have the metric.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected metrics, found no file: train with logger=csv")
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        points = [(int(row["step"]) + 1, float(row[metric])) for row in rows if row.get(metric)]
    if not points:
        raise ValueError(f"{path}: expected values of {metric}, got none: leave the run out")
    return points


def read_curves(runs: Sequence[Run], metric: str) -> Curve:
    """A metric of runs that were measured at the same steps.

    Raises:
        ValueError: where they were not.
    """
    each = [read_curve(run.folder / "metrics.csv", metric) for run in runs]
    steps = [[step for step, _ in points] for points in each]
    for run, other in zip(runs, steps, strict=True):
        if other != steps[0]:
            raise ValueError(
                f"{run.folder}: expected values of {metric} at the steps of {runs[0].folder}, "
                f"{len(steps[0])} up to {steps[0][-1]}, got {len(other)} up to {other[-1]}: give "
                "runs of the same budget"
            )
    return Curve(np.array(steps[0]), np.array([[value for _, value in points] for points in each]))


def interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the first axis, and half the width of its 95% interval; NaN of one run."""
    count = len(values)
    if count == 1:
        return values[0], np.full_like(values[0], math.nan)
    half = stats.t.ppf(0.975, count - 1) * stats.sem(values, axis=0)
    return values.mean(axis=0), half


def draw(groups: Mapping[str, Sequence[Run]]) -> Figure:
    """A panel for each metric, a line for each variant."""
    figure = new_figure(8, 3.4)
    axes = figure.subplots(1, len(CURVES))
    for ax, (metric, (title, unit, scale, most)) in zip(axes, CURVES.items(), strict=True):
        for name, runs in groups.items():
            curve = read_curves(runs, metric)
            draw_curve(ax, curve._replace(values=curve.values * scale), name)
        tidy(ax, title=title, xlabel="optimiser step", ylabel=unit)
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.set_xlim(left=0)
        ax.set_ylim(0, most)
        ax.grid(color=PALE, linewidth=0.6)
        ax.set_axisbelow(True)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=TEXT, frameon=False)
    return figure


def draw_curve(ax: Axes, curve: Curve, name: str) -> None:
    """Mean and band of a variant."""
    mean, half = interval(curve.values)
    ax.plot(curve.steps, mean, color=COLOURS[name], linewidth=1.5, label=name)
    if len(curve.values) > 1:
        band = {"color": COLOURS[name], "alpha": 0.15, "linewidth": 0}
        ax.fill_between(curve.steps, mean - half, mean + half, **band)


def table(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """The results on the test images, in Markdown."""
    lines = [
        "| estimator | runs | test accuracy, % | entropy of the attention, nats |",
        "| --- | --- | --- | --- |",
    ]
    for name, runs in groups.items():
        cells = []
        for metric, scale, form in (("accuracy", 100, ".1f"), ("attention_entropy", 1, ".2f")):
            mean, half = interval(
                np.array([[run.metrics[f"test/{metric}"]] for run in runs]) * scale
            )
            width = "" if math.isnan(half[0]) else f" ± {half[0]:{form}}"
            cells.append(f"{mean[0]:{form}}{width}")
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("estimators.png"))
    arguments = parser.parse_args()
    try:
        found = survey(arguments.folders)
        groups = group(found.finished)
        figure = draw(groups)
        lines = table(groups)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if len(found.finished) < len(found.runs) or found.left:
        print(*found.lines(), sep="\n", file=sys.stderr)
    figure.savefig(arguments.out)
    print(*lines, "", arguments.out, sep="\n")


if __name__ == "__main__":
    main()
