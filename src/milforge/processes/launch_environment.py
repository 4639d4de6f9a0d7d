"""A process that another one of its run has started leaves when that one is gone."""

import os
import sys
import threading
import time

SECONDS = 5
# Names the process of rank 0 to those that it starts.
FIRST = "MILFORGE_FIRST_PROCESS"


def started_by() -> str | None:
    """What has started several processes of this command: torchrun, srun, or None.

    SLURM sets most of its variables in a batch script, too, and in a shell on one of its nodes.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env and int(env.get("WORLD_SIZE", 1)) > 1:
        return "torchrun"
    in_shell = env.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_STEP_ID" in env and int(env.get("SLURM_NTASKS", 1)) > 1 and not in_shell:
        return "srun"
    return None


def leave_with_parent() -> None:
    """Watches the process that started this one, where Lightning did so for DDP.

    That one watches those it has started, but should it be killed, they would wait for it in the
    next collective: up to half an hour. torchrun and SLURM look after their processes themselves.
    """
    if started_by() is not None:
        return
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        os.environ[FIRST] = str(os.getpid())
    elif FIRST in os.environ:
        first = int(os.environ[FIRST])
        threading.Thread(target=_watch, args=(first,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS)
    print(
        "error: the first process of this run has ended; it goes on from its last checkpoint with "
        "the same command and run=NAME",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)  # the main thread may wait in a collective, which nothing interrupts
