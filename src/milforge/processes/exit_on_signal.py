"""A signal ends a run where there is nothing to save: it reads data, or writes results."""

import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from lightning.pytorch.utilities import rank_zero_only

from milforge.processes.signal_numbers import GOES_ON, TERM, USR1, there
from milforge.processes.slurm import preempted, queue_again

logger = logging.getLogger(__name__)

# What a person or a queue sends, and what `#SBATCH --signal=USR1@120` sends before the time is up.
SIGNALS = there(TERM, USR1)


class Interrupted(SystemExit):
    """Ends the process.

    Args:
        signum: the signal; gives the exit code. 0 in all processes of a run but the first, because
            what started them kills the first too where another one fails.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum if signum else 0)


def leave(signum: int, *, first: bool) -> NoReturn:
    """Ends the process; by the first one of a run SLURM is asked to queue the job again.

    It is where its time is up, which is what SIGUSR1 means, or it is pre-empted.

    Raises:
        Interrupted: always.
    """
    if first and (signum == USR1 or preempted()):
        queue_again()
    raise Interrupted(signum if first else 0)


class ExitOnSignal:
    """While it is entered, SIGTERM and SIGUSR1 end the process, and SLURM queues the job again.

    On the same signals as `Interruption`, which takes over in training and in tests. Handlers that
    are there already, such as submitit's, stay.

    Args:
        again: how what is ended goes on, or begins anew, as a clause for the user.
    """

    def __init__(self, again: str = GOES_ON) -> None:
        self.again = again
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Self:
        """Listens, if this is the main thread: only that may."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if not callable(signal.getsignal(signum)):
                    self._before[signum] = signal.signal(signum, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Puts back the handlers of before."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        if os.getpid() != self._process:  # a process that reads for this one, which ends it
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if first:
            name = signal.Signals(signum).name
            logger.warning("%s: stopped; %s", name, self.again)
        leave(signum, first=first)
