"""What the system lacks is told apart from what is wrong with a file."""

import errno

import numpy as np
import pytest

from milforge.processes.memory_limit import check_memory_limit
from milforge.processes.system_errors import refusal, shortage


def chained(error, cause):
    error.__cause__ = cause
    return error


LACKING = [
    (OSError(errno.EMFILE, "Too many open files"), "too many open files", "ulimit -n"),
    (RuntimeError("unable to open file, errno = 24, error"), "too many open files", "ulimit -n"),
    (OSError("unable to lock file, errno = 11"), "a lock of another process", "FILE_LOCKING"),
    (MemoryError(), "too little memory", "num_workers"),
    (RuntimeError("unable to mmap 5 bytes: Cannot allocate memory (12)"), "too little", "workers"),
    (RuntimeError("DefaultCPUAllocator: can't allocate"), "too little memory", "num_workers"),
    (chained(ValueError("damaged"), MemoryError("small")), "too little memory (small)", "workers"),
]


@pytest.mark.parametrize(("error", "what", "remedy"), LACKING, ids=str)
def test_what_is_lacking(error, what, remedy):
    told = shortage(error)
    assert told[0].startswith(what)
    assert remedy in told[1]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no magic number"),
        OSError("truncated file: eof = 96, stored eof = 2048"),
        OSError(errno.EIO, "Input/output error"),
    ],
    ids=str,
)
def test_a_file_at_fault_lacks_nothing(error):
    assert shortage(error) is None


def test_an_array_too_large_for_memory_is_told_so():
    with pytest.raises(MemoryError) as told:
        np.empty((2**40, 2**10))
    assert shortage(told.value)[0].startswith("too little memory (Unable to allocate")


def test_the_error_of_the_system_is_found_behind_others():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert refusal(chained(RuntimeError("unexpected pos"), full)) is full
    assert refusal(RuntimeError("unexpected pos")) is None
    assert refusal(OSError("our own words")) is None


def test_a_limit_of_addresses_that_leaves_too_little_is_told(monkeypatch):
    import resource

    check_memory_limit()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**30, 2**30))
    with pytest.raises(MemoryError, match=r"limit of 1\.0 GiB of address space \(ulimit -v\)"):
        check_memory_limit()
    check_memory_limit(-(2**50))


def test_errors_that_stand_behind_each_other_in_a_ring_come_to_an_end():
    first, second = ValueError("damaged"), ValueError("not read")
    first.__context__, second.__context__ = second, first
    assert shortage(first) is None
    assert refusal(first) is None
    second.__context__ = OSError(errno.ENOSPC, "no space")
    assert refusal(first).errno == errno.ENOSPC
