"""A process that a run needs has died: of the run itself, or one that reads its data."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from milforge.processes.signal_numbers import GOES_ON
from milforge.processes.system_errors import shortage

# How torch's backends, and its DataLoader, begin their messages that a process is gone.
LOST_PROCESS = r"[Gg]loo|NCCL|[Cc]onnection (closed|reset)|[Bb]roken pipe|Socket"
LOST_WORKER = r"DataLoader worker \(pid.*\) (is killed|exited)"
# How torch begins what an error in a process that reads data becomes in the run, and what is above
# the error's own text there.
IN_WORKER = "Caught {} in DataLoader worker process"


@contextmanager
def report_lost_process(again: str = GOES_ON) -> Iterator[None]:
    """Says in a sentence that a process of the run, or of its loaders, has died.

    An error for the user that a process of a loader raised is raised as it was there.

    Args:
        again: how the run goes on, or begins anew, as a clause for the user.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        told = told_by_worker(error)
        if told is None:
            raise
        raise type(error)(told) from error
    except RuntimeError as error:
        text = str(error).splitlines()[0] if str(error) else ""
        if isinstance(error, torch.distributed.DistError) or re.search(LOST_PROCESS, text):
            raise ConnectionError(
                f"another process of this run has ended, see above, or cannot be reached ({text}); "
                f"start it again: {again}"
            ) from error
        if text.startswith("Too many open files"):  # torch's, as another process hands a batch over
            what, remedy = shortage(error) or (text, "")
            raise OSError(
                f"the processes that read the data need more: {what}: {remedy}"
            ) from error
        if re.search(LOST_WORKER, text):
            why = "memory ran out: lower loader.num_workers"
            if "Bus error" in text:
                why = (
                    "a file that it reads was cut off (the bags, data.cache), or the memory that "
                    "processes share is full: look there, lower loader.num_workers"
                )
            raise ChildProcessError(
                f"a process that reads the data has died ({text}), usually because {why} and "
                f"start it again: {again}"
            ) from error
        raise


def told_by_worker(error: Exception) -> str | None:
    r"""What an error said in the process that read data; None where it comes from no such process.

    Torch hands it on as an error of the same type, whose text is the traceback.

    Example:
        >>> text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback ...\n"
        >>> text += "  File ...\nValueError: a.h5: 2 faults\n  row 1\n"
        >>> told_by_worker(ValueError(text))
        'a.h5: 2 faults\n  row 1'
    """
    text, name = str(error), type(error).__name__
    if not text.startswith(IN_WORKER.format(name)):
        return None
    # The last of a chain of errors is the one that was raised.
    *_, told = re.split(rf"^(?:[\w.]+\.)?{name}: ", text, flags=re.M)
    return told.strip()
