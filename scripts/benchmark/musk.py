"""MUSK1, 5 x 10-fold, through the real command line, beside the published accuracies.

    python scripts/benchmark/musk.py --root FOLDER/clean1.data
    python scripts/benchmark/musk.py --root FOLDER/clean1.data --folds 10

Attention and gated attention, with the protocol that leaks nothing (experiment=musk1) and with the
published one (experiment=musk1_published). Each of the four is a sweep under
logs/train/multiruns, all its folds in one process; begun again, it runs the folds that are missing.

Accuracy is the mean over folds. Its 95% interval is the bootstrap of `milforge-report`. Folds of
five repeats are of the same 92 bags, so it is narrower than other 92 molecules would have it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from milforge.statistics.repeated_runs.repetitions import bootstrap_interval

SWEEPS = Path("logs/train/multiruns")
FOLDS = 50
PROTOCOLS = ("musk1", "musk1_published")
# Ilse, Tomczak, Welling (2018), table 1: mean and standard error of five times ten folds.
PUBLISHED = {"abmil": (0.892, 0.040), "gated_abmil": (0.900, 0.050)}
# Nothing is drawn or shown of 200 runs of a quarter of a minute.
QUIET = ("logger=none", *(f"callbacks.{name}=null" for name in ("figures", "predictions")))


def sweep_of(protocol: str, model: str) -> Path:
    return SWEEPS / f"{protocol}_{model}"


def run(protocol: str, model: str, root: Path, folds: int) -> None:
    """The folds of a sweep that are missing, in one process."""
    sweep = sweep_of(protocol, model)
    left = [f for f in range(folds) if not (sweep / f"fold{f}" / "summary.json").is_file()]
    if not left:
        return
    overrides = [f"experiment={protocol}", f"model={model}", f"data.root={root.resolve()}"]
    overrides += [f"split.fold={','.join(map(str, left))}", *QUIET]
    folders = [f"sweep={sweep.name}", "hydra.sweep.subdir=fold${split.fold}"]
    command = [sys.executable, "-m", "milforge.cli.train", "-m", *overrides, *folders]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def row(protocol: str, model: str) -> str | None:
    """A line of the table; None where no fold is finished."""
    files = sorted(sweep_of(protocol, model).glob("fold*/summary.json"))
    summaries = [json.loads(file.read_text()) for file in files]
    if not summaries:
        return None
    accuracies = [summary["metrics"]["test/accuracy"] for summary in summaries]
    interval = bootstrap_interval(accuracies)
    between = "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
    # A fold drawn at random may hold one class only, of which there is no AUROC.
    aurocs = [s["metrics"].get("test/auroc") for s in summaries]
    aurocs = [value for value in aurocs if value is not None]
    published, error = PUBLISHED[model]
    seconds = np.median([summary["wall_seconds"] for summary in summaries])
    cells = [
        model,
        "published" if protocol == "musk1_published" else "without leaks",
        f"{len(summaries)}",
        f"{np.mean(accuracies):.3f}",
        between,
        f"{published:.3f} ± {error:.3f}",
        f"{np.mean(aurocs):.3f}",
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, help="UCI's clean1.data", required=True)
    parser.add_argument("--folds", type=int, default=FOLDS, help="the first so many of 50")
    parser.add_argument("--report-only", action="store_true", help="print what is finished")
    arguments = parser.parse_args()
    columns = ["model", "protocol", "folds", "accuracy", "95% interval", "paper", "AUROC"]
    columns += ["seconds a fold"]
    studies = [(protocol, model) for protocol in PROTOCOLS for model in PUBLISHED]
    if not arguments.report_only:
        for study in studies:
            run(*study, arguments.root, arguments.folds)
    print(f"| {' | '.join(columns)} |")
    print("| --- " * len(columns) + "|")
    print("\n".join(line for study in studies if (line := row(*study)) is not None))


if __name__ == "__main__":
    main()
