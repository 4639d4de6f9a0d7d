"""A sweep that is handed to SLURM and left: `hydra.callbacks.sweep.detach=true`."""

import sys
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf


def check_detach(hydra: HydraConf, *, searches: bool) -> None:
    """Checks that nothing of a sweep is left to do once its jobs are in the queue.

    Args:
        hydra: Hydra's own config.
        searches: whether parameters are chosen by what came out before.

    Raises:
        ValueError: for a launcher other than submitit_slurm, a search, or jobs in several batches.
    """
    if not str(hydra.launcher._target_).endswith("SlurmLauncher"):
        raise ValueError(
            "hydra.callbacks.sweep.detach=true: expected launcher=submitit_slurm, whose queue runs "
            "the jobs; with another launcher they end with this command"
        )
    if searches:
        raise ValueError(
            "hydra.callbacks.sweep.detach=true: a search waits for its jobs to choose the next; "
            "leave one of the two out, or run the command in tmux"
        )
    if hydra.sweeper.max_batch_size is not None:
        raise ValueError(
            "hydra.callbacks.sweep.detach=true: with hydra.sweeper.max_batch_size only the first "
            "jobs would be submitted; hydra.launcher.array_parallelism says how many run at a time"
        )


def leave_once_submitted(folder: Path) -> None:
    """Has submitit end this process, with code 0, as soon as the jobs are in the queue.

    Args:
        folder: of the sweep; the last line says how to survey it.
    """
    import submitit

    submit = submitit.AutoExecutor.map_array

    def and_leave(executor: Any, *arguments: Any) -> None:
        jobs = submit(executor, *arguments)
        print(f"{len(jobs)} jobs are in the queue, from {jobs[0].job_id} on; none is waited for")
        print(f"survey       milforge-report {folder}", flush=True)
        sys.exit(0)

    submitit.AutoExecutor.map_array = and_leave  # type: ignore[assignment, method-assign]
