"""The jobs of a sweep: where they are, how far they are, and what they say together."""

import json
import logging
import multiprocessing
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from milforge.cli.detached import check_detach, leave_once_submitted
from milforge.config.messages import explain
from milforge.config.search_metric import check_metric, goal


class SweepJob:
    """A job as its folder describes it to whoever surveys the sweep.

    Args:
        folder: the folder of the job; the folder of the sweep is above it.
        hydra: Hydra's own config of the job.
    """

    def __init__(self, folder: Path, hydra: HydraConf) -> None:
        from milforge.config.planned_jobs import planned_jobs

        self.folder = folder
        total = planned_jobs(folder.parent) or "?"
        self.name = f"job {hydra.job.num + 1} of {total}, {os.path.relpath(folder)}"
        self.overrides = [str(each) for each in hydra.overrides.task]
        self.is_trial = is_search(hydra)
        self._before: Mapping[str, Any] = {}

    def begin(self) -> bool:
        """Says how far the sweep is; returns whether the job is to run.

        A job that failed runs again when its sweep is started again. A trial of a search does not:
        the parameters of those after it follow from what came of it.
        """
        begun = _written(self.folder.parent / "multirun.yaml")
        jobs = [(each, _summary(each).get("status")) for each in self.folder.parent.iterdir()]
        # A failure of before the sweep was begun again is not one yet: that job is still to run.
        states = Counter(
            status
            for each, status in jobs
            if status != "failed" or _written(each / "summary.json") >= begun
        )
        print(f"{self.name}: {states['finished']} done, {states['failed']} failed", flush=True)
        self._before = before = _summary(self.folder)
        if before.get("status") != "failed":
            return True
        if self.is_trial and before.get("overrides") == self.overrides:
            self._say(f"failed when the search was run before and is left so: {before['error']}")
            return False
        (self.folder / "summary.json").unlink(missing_ok=True)  # by another process of the job
        return True

    def refuse(self, why: str) -> None:
        """Says why nothing was done; the folder is another's, and stays as it is."""
        self._say(f"refused: {why}")

    def fail(self, error: str) -> None:
        """Leaves the error in the folder."""
        from milforge.processes.files import atomic_path

        self._say(f"failed: {error}")
        there = _summary(self.folder)
        if there and there != self._before:
            return  # another process of this job knows better, or is done
        summary = {"status": "failed", "error": error, "overrides": self.overrides}
        with atomic_path(self.folder / "summary.json") as path:
            path.write_text(json.dumps(summary, indent=2) + "\n")

    def _say(self, what: str) -> None:
        print(f"{self.name}: {what}", file=sys.stderr, flush=True)


class Sweep(Callback):
    """What Hydra calls where a sweep begins and where it ends.

    Args:
        table: whether the table of `milforge-report` is printed at the end.
        detach: whether the command ends as soon as its jobs are in the queue of SLURM.
    """

    def __init__(self, table: bool = True, detach: bool = False) -> None:
        self.table = table
        self.detach = detach

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Gives a sweep without a name the name of its folder.

        So every process finds that folder. Errors end the process here: Hydra would make them
        warnings.
        """
        hydra = config.hydra
        try:
            check_metric(config.get("optimized_metric"))
            if self.detach:
                check_detach(hydra, searches=is_search(hydra))
            _check_slurm(hydra)
            if is_search(hydra):
                hydra.sweeper.get("direction")  # what is wrong with the metric shows by this
            folder = Path(hydra.sweep.dir)
        except (ValueError, OmegaConfBaseException) as error:
            sys.exit(f"error: {explain(error, str(hydra.job.config_name))}")
        with read_write(hydra), open_dict(config):
            # ~KEY goes by the sweeper, which would make it ~KEY=null: that Hydra 1.4 takes at its
            # word, and there is no such null.
            # As they are written: ${seed} in one of them is that of the job, not of the sweep.
            written = OmegaConf.to_container(hydra.overrides.task, resolve=False)
            assert isinstance(written, list)
            left_out = [each for each in written if re.match(r"~[^=]+$", str(each))]
            if left_out:
                hydra.overrides.hydra += left_out
                hydra.overrides.task = [each for each in written if each not in left_out]
            if config.sweep is None:
                config.sweep = folder.name
                hydra.overrides.task.append(f"sweep={folder.name}")
            local = hydra.launcher._target_.endswith("LocalLauncher") and not is_search(hydra)
            if local and hydra.sweeper.max_batch_size is None:
                # submitit would begin all jobs at once. Said to every job as well: Hydra 1.4
                # refuses those of another sweeper.
                hydra.sweeper.max_batch_size = os.cpu_count()
                hydra.overrides.hydra.append(f"hydra.sweeper.max_batch_size={os.cpu_count()}")
        if is_search(hydra):
            _quieten_optuna()
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")  # not every sweeper writes it
        if self.detach:
            leave_once_submitted(Path(os.path.relpath(folder)))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the survey and the table; ends the process with code 1 where a job failed."""
        if sys.exception() is not None:
            return  # the sweep itself failed, which will be reported; Hydra 1.3 does not call this
        folder = Path(os.path.relpath(config.hydra.sweep.dir))
        searched = is_search(config.hydra)
        metric = goal(config) if searched else ""
        try:
            failed = tell(folder, [metric] if searched else None, table=self.table)
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
        if searched:
            tell_best(folder, metric)
        elif failed:
            sys.exit(f"error: {failed}")


def start_processes_as_python_does() -> None:
    """Undoes what a process of joblib's does with those that it starts.

    They would be started by joblib's library loky, which takes none but its own: the workers that
    read the bags end with `'Process' object has no attribute 'env'`.
    """
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        multiprocessing.set_start_method(None, force=True)  # as the platform and Python have it


def is_search(hydra: HydraConf) -> bool:
    """Whether a sweeper chooses the parameters by what came out before."""
    return str(hydra.runtime.choices["hydra/sweeper"]) != "basic"


def check_single(overrides: Sequence[str]) -> None:
    """Checks that a run by itself is not meant to be many.

    Raises:
        ValueError: where the command line has a launcher or a search, and no `-m`.
    """
    for override in overrides:
        if override.startswith(("launcher=", "search=")) and override != "launcher=basic":
            raise ValueError(f"{override} is for many jobs: expected -m beside it")


def tell(folder: Path, metrics: Sequence[str] | None = None, *, table: bool = True) -> str | None:
    """Prints what `milforge-report` would on a sweep; returns a sentence on the jobs that failed.

    Raises:
        ValueError: where there is no job, or no such metric.
    """
    from milforge.cli.report import choose_metrics
    from milforge.report.groups import group_runs
    from milforge.report.rows import make_rows
    from milforge.report.survey import survey
    from milforge.report.table import explain as explain_rows
    from milforge.report.table import terminal_tables

    found = survey([folder])
    print("", *found.lines(), sep="\n")
    if table and any(run.metrics for run in found.finished):  # predictions have none
        chosen = choose_metrics(found.finished, metrics)
        grouping = group_runs(found.finished)
        rows = make_rows(grouping.groups, chosen, [None] * len(grouping.groups))
        print("", terminal_tables(rows), "", *grouping.notes, *explain_rows(rows), sep="\n")
        named = f" --metrics {' '.join(metrics)}" if metrics else ""
        print(f"\nagain        milforge-report {folder}{named}", flush=True)
    others = [run for run in found.runs if run.state != "finished"]
    if not others:
        return None
    first = f"{others[0].folder}: {others[0].fault or others[0].state}"
    return f"{len(others)} of {len(found.runs)} jobs did not finish, first {first}"


def tell_best(folder: Path, metric: str) -> None:
    """Prints what a search found."""
    path = folder / "optimization_results.yaml"
    best = OmegaConf.load(path)
    overrides = " ".join(f"{key}={value}" for key, value in best.best_params.items())
    print(f"best         {metric} {best.best_value:.4f} with {overrides}")
    print(f"parameters   {path}", flush=True)


def _check_slurm(hydra: HydraConf) -> None:
    if hydra.launcher._target_.endswith("SlurmLauncher") and shutil.which("srun") is None:
        raise ValueError(
            "launcher submitit_slurm: expected srun and sbatch on this machine, found none; begin "
            "the sweep on a node of the cluster that has SLURM, or choose launcher=submitit_local"
        )


def _quieten_optuna() -> None:
    """Leaves out what says nothing: the best parameters and the failures we report ourselves."""
    # On import Optuna sets its own level, and what it imports writes a line per plugin.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _summary(folder: Path) -> Mapping[str, Any]:
    from milforge.processes.files import read_json  # which imports torch

    try:
        summary = read_json(folder / "summary.json")
    except (OSError, ValueError):
        return {}  # not there, or damaged: the job itself will say so
    return summary if isinstance(summary, dict) else {}
