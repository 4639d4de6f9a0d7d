"""Errors of processes that read data are told as those of this one."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from milforge.data.faults import BagError, Fault, bag_error
from milforge.processes.lost_process import report_lost_process
from thinned import thinned


class Broken(Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise KeyError("what the library said")
        except KeyError as error:
            raise self.error from error


TWO = BagError("l.csv: 2 faults\n  a.h5: x\n  b.h5: y", (Fault("a", "a.h5", "x", "y"),))


@pytest.mark.parametrize(
    "error",
    thinned(
        [
            bag_error([Fault("a", "a.h5", "expected x, got y", "mend it")]),
            TWO,
            ValueError("a: b"),
            OSError("c: d"),
        ],
        every=2,
    ),
    ids=str,
)
def test_an_error_in_a_worker_is_the_same_sentence(error):
    with pytest.raises(type(error)) as told, report_lost_process():
        next(iter(DataLoader(Broken(error), num_workers=1)))
    assert str(told.value) == str(error)


def test_errors_of_this_process_stay_as_they_are():
    error = ValueError("a: b")
    with pytest.raises(ValueError, match="a: b") as told, report_lost_process():
        raise error
    assert told.value is error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "memory ran out"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error.", "data.cache"),
        ("Too many open files. Communication with the workers is", "ulimit -n 4096"),
    ],
)
def test_what_ended_a_worker_is_told(text, words):
    again = "it goes on with sweep=cv"
    with pytest.raises(OSError, match=f"{words}.*") as told, report_lost_process(again):
        raise RuntimeError(text)
    assert text.startswith("Too many") or str(told.value).endswith(f"start it again: {again}")


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="mat1"), report_lost_process():
        torch.zeros(2, 3) @ torch.zeros(2, 3)
