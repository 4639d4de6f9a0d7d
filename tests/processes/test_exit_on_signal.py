"""A process that gets a signal to end where there is nothing to save."""

import os
import signal

import pytest

from milforge.processes.exit_on_signal import ExitOnSignal


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_it_ends_and_puts_back_what_was_there(signum, caplog):
    before = signal.getsignal(signum)
    with pytest.raises(SystemExit) as end, ExitOnSignal("it goes on with sweep=cv"):
        signal.raise_signal(signum)
    assert end.value.code == 128 + signum
    assert signal.getsignal(signum) is before
    assert "stopped; it goes on with sweep=cv" in caplog.text


def test_handlers_of_others_stay():
    told = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: told.append(signum))
    try:
        with ExitOnSignal():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_process_that_was_forked_ends_as_if_nobody_listened():
    """As pools end their processes; the job of their parent goes on."""
    with ExitOnSignal():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)  # not reached
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
