"""A process that a run needs has died: of the run itself, or one that reads its data."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# How torch's backends, and its DataLoader, begin their messages that a process is gone.
LOST_PROCESS = r"[Gg]loo|NCCL|[Cc]onnection (closed|reset)|[Bb]roken pipe|Socket"
LOST_WORKER = r"DataLoader worker \(pid.*\) (is killed|exited)"


@contextmanager
def report_lost_process() -> Iterator[None]:
    """Says in a sentence that a process of the run, or of its loaders, has died."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).splitlines()[0] if str(error) else ""
        if isinstance(error, torch.distributed.DistError) or re.search(LOST_PROCESS, text):
            raise ConnectionError(
                f"another process of this run has ended, see above, or cannot be reached ({text}); "
                "start it again: training goes on from its last checkpoint with run=NAME"
            ) from error
        if re.search(LOST_WORKER, text):
            raise ChildProcessError(
                f"a process that reads the data has died ({text}), usually because memory ran out: "
                "lower loader.num_workers and start it again: training goes on with run=NAME"
            ) from error
        raise
