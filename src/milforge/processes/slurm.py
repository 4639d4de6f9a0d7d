"""What a run asks of SLURM about the job that it is in; outside of SLURM nothing is done."""

import logging
import os
import re
import subprocess

logger = logging.getLogger(__name__)


def preempted() -> bool:
    """Whether the job is to make room for another one within a time of grace.

    SLURM takes such a job for one that failed where it ends by itself in that time, and queues it
    again only where it has to kill it. A job that is pre-empted without grace is in the queue
    already, and one that was cancelled is not to come back: in neither does `PreemptTime` stand.
    """
    job = _job()
    if job is None:
        return False
    answer, _ = _scontrol("show", "job", job)
    return re.search(r"\bPreemptTime=\d", answer) is not None


def queue_again() -> None:
    """Puts the job back into the queue, under its number."""
    job = _job()
    if job is None:
        return
    _, fault = _scontrol("requeue", job)
    if fault:
        logger.warning("job %s could not be queued again: %s", job, fault)
    else:
        logger.warning("job %s is queued again", job)


def _job() -> str | None:
    """Its name; None outside of SLURM."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{each}_ID") for each in ("JOB", "TASK"))
    if array and task:
        return f"{array}_{task}"  # one job of an array has the number of the whole array
    return os.environ.get("SLURM_JOB_ID")


def _scontrol(*arguments: str) -> tuple[str, str]:
    """What it says, and what went wrong."""
    command = ["scontrol", *arguments]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return "", error.stderr.strip() or str(error)
    except OSError as error:
        return "", str(error)
    return done.stdout, ""
