import os
import threading
import time

import numpy as np
import pytest

from milforge.data.images.sources.handles import Handles


class Recorder:
    """Handles that count how they are opened and closed."""

    def __init__(self, delay=0.0):
        self.opened, self.closed, self.delay = [], [], delay

    def open(self, path):
        time.sleep(self.delay)
        self.opened.append(path)
        recorder = self

        class Handle:
            channels, dtype, levels, alive = 1, np.dtype(np.uint8), ((1, 1),), True

            def close(self):
                self.alive = False
                recorder.closed.append(path)

        return Handle()


def test_a_file_is_opened_once_and_the_least_recent_closed():
    recorder, handles = Recorder(), Handles(2)
    opener = recorder.open
    for path in ("a", "b", "a", "c", "a", "b"):
        with handles.lend(opener, path) as handle:
            assert handle.alive
    assert recorder.opened == ["a", "b", "c", "b"]
    assert recorder.closed == ["b", "c"]
    handles.close()
    assert sorted(recorder.closed) == ["a", "b", "b", "c"]


def test_what_is_read_is_not_closed():
    recorder, handles = Recorder(), Handles(1)
    opener = recorder.open
    with handles.lend(opener, "a") as a, handles.lend(opener, "b") as b:
        handles.close()
        assert a.alive
        assert b.alive
    assert recorder.closed == ["b"]  # given back first, while both were open


def test_threads_share_one_handle():
    recorder, handles = Recorder(delay=0.05), Handles(4)
    opener, found = recorder.open, []

    def read():
        with handles.lend(opener, "a") as handle:
            found.append(handle)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.opened == ["a"]
    assert len(set(map(id, found))) == 1
    assert len(found) == 8


def test_files_open_at_the_same_time():
    """No thread waits for the file of another."""
    handles, both = Handles(4), threading.Barrier(2, timeout=5)

    def opener(path):
        both.wait()
        return Recorder().open(path)

    def read(path):
        with handles.lend(opener, path):
            pass

    other = threading.Thread(target=read, args=("a",))
    other.start()
    read("b")
    other.join()
    assert not both.broken


def test_a_file_that_could_not_be_opened_is_tried_again():
    handles, tries = Handles(2), []

    def opener(path):
        tries.append(path)
        if len(tries) == 1:
            raise OSError("not yet")
        return Recorder().open(path)

    with pytest.raises(OSError, match="not yet"), handles.lend(opener, "a"):
        pass
    with handles.lend(opener, "a"):
        pass
    assert tries == ["a", "a"]


def test_a_fork_opens_its_own_and_closes_none_of_its_parents():
    recorder, handles = Recorder(), Handles(2)
    opener = recorder.open
    with handles.lend(opener, "a") as parents:
        # The lock is held, as by another thread at the moment of the fork.
        with handles._lock:
            child = os.fork()
            if child == 0:
                with handles.lend(opener, "a") as own:
                    fresh = own is not parents and own.alive
                handles.close()
                os._exit(0 if fresh and parents.alive and recorder.closed == ["a"] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert recorder.opened == ["a"]
