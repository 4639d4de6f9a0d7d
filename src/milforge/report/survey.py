"""Which runs there are below some folders, and how far they are."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from milforge.config.planned_jobs import planned_jobs
from milforge.report.runs import Run, read_run

STATES = ("finished", "failed", "stopped", "running", "unreadable")
MOST_NAMED = 10
FAITHFULNESS = (
    "faithfulness/"  # prefix of what milforge-map measures, which is no result of a model
)


@dataclass(frozen=True)
class Survey:
    """All runs below some folders.

    Attributes:
        runs: in the order of their folders, `10` after `9`.
        left: number of jobs of the sweeps that have no folder yet.
    """

    runs: list[Run]
    left: int

    @property
    def finished(self) -> list[Run]:
        """The runs that came to their end."""
        return [run for run in self.runs if run.state == "finished"]

    @property
    def measured(self) -> list[Run]:
        """The finished runs but those of commands that measure no model, such as milforge-map.

        A run whose metrics are all NaN or infinite has measured something.
        """
        return [
            run
            for run in self.finished
            if any(not name.startswith(FAITHFULNESS) for name in run.summary.get("metrics") or ())
        ]

    def lines(self) -> list[str]:
        """How far the runs are, and by name those that are not done."""
        counts = Counter(run.state for run in self.runs)
        shown = [f"{counts[state]} {state}" for state in STATES if counts[state]]
        shown += [f"{self.left} left"] * (self.left > 0)
        total = len(self.runs)
        lines = [f"{count_runs(total + self.left)}: {', '.join(shown)}"]
        missing = [run for run in self.runs if run.state in ("stopped", "running")]
        if missing:
            names = listed([f"{run.folder} ({run.state})" for run in missing])
            verb = "has" if len(missing) == 1 else "have"
            lines.append(f"{len(missing)} of {count_runs(total)} {verb} no summary: {names}")
        others = len(self.finished) - len(self.measured)
        if others:
            lines.append(
                f"{count_runs(others)} without metrics, as of milforge-map and milforge-predict, "
                f"{'is' if others == 1 else 'are'} left out of means and comparisons"
            )
        lines += [
            f"{run.folder}: {run.seen} of its test bags were seen in training, so its metrics are "
            "too good"
            for run in self.finished
            if run.seen
        ]
        faults = [run for run in self.runs if run.state in ("failed", "unreadable")]
        lines += [f"{run.state}: {run.folder}{run.fault and f': {run.fault}'}" for run in faults]
        return lines


def survey(folders: Sequence[Path]) -> Survey:
    """Reads all runs in and below the folders.

    Raises:
        ValueError: for a folder that does not exist, or that holds no run.
    """
    found: dict[Path, Path] = {}
    sweeps: dict[Path, list[Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        jobs = list(_find(folder, is_job=False, seen=set()))
        if not jobs:
            raise ValueError(
                f"expected runs in {folder}, found no config.yaml and no summary.json in or below "
                "it; give the folder of a run, of a sweep, or one above them such as logs/train"
            )
        for job in jobs:
            found.setdefault(job.resolve(), job)  # folders may overlap, or be links to each other
    for job in found:
        # Who names a few jobs of a sweep does not ask for the rest of it.
        whole = any(job.parent.is_relative_to(folder.resolve()) for folder in folders)
        if whole and (job.parent / "multirun.yaml").is_file():
            sweeps.setdefault(job.parent, []).append(job)
    left = sum(max(0, planned_jobs(sweep) - len(jobs)) for sweep, jobs in sweeps.items())
    return Survey([read_run(folder) for folder in found.values()], left)


def _find(folder: Path, *, is_job: bool, seen: set[Path]) -> Iterator[Path]:
    """The folders of runs in and below a folder; none lies in another.

    One that cannot be looked into is a run that cannot be read; links that lead back are left out.
    """
    place = folder.resolve()
    if place in seen:
        return
    seen.add(place)
    try:
        with os.scandir(folder) as entries:
            kinds = {entry.name: _is_dir(entry) for entry in entries}
    except OSError:
        yield folder
        return
    if "config.yaml" in kinds or "summary.json" in kinds or is_job:
        yield folder
        return
    below = [name for name, is_dir in kinds.items() if is_dir]
    for name in sorted(below, key=_natural):
        if not name.startswith(".") and name != "wandb":  # W&B keeps a config.yaml of its own
            # A job that failed before it wrote anything has nothing but its number.
            is_job = "multirun.yaml" in kinds and name.isdigit()
            yield from _find(folder / name, is_job=is_job, seen=seen)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts `10` after `9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def count_runs(count: int) -> str:
    """`1 run`, `2 runs`."""
    return "1 run" if count == 1 else f"{count} runs"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
