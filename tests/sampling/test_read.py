import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from milforge.data import TensorSource
from milforge.sampling import extract_patches, read_patches
from milforge.sampling import read as read_module


def images(count=3, dtype=torch.float32, channels=2):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(count, channels, 40, 50, generator=generator) * 255
    return image.to(dtype)


def offsets(count=3, n=11):
    return torch.randint(-9, 55, (count, n, 2), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 4, 11])
def test_it_reads_what_is_cut_in_memory(dtype, n):
    x = images(dtype=dtype)
    sources = [TensorSource(each) for each in x]
    found = read_patches(sources, offsets(n=n), (7, 5))
    assert found.dtype == dtype
    assert torch.equal(found, extract_patches(x, offsets(n=n), (7, 5)))


class Source:
    """A source of one number, of which windows may fail, that notes who reads it."""

    def __init__(self, name="a", value=0.0, fail=None, channels=1, dtype=torch.float32, delay=0.0):
        self.name, self.value, self.fail, self.dtype = name, value, fail, dtype
        self.delay = delay
        self.shape, self.levels = (channels, 40, 50), ((40, 50), (20, 25))
        self.threads, self.asked = set(), []

    def read(self, offsets, size, level=0):
        self.threads.add(threading.get_ident())
        self.asked.append((len(offsets), level))
        time.sleep(self.delay)
        if self.fail is not None and self.fail in offsets[:, 0].tolist():
            raise OSError(f"{self.name}: cannot read the window at row {self.fail}")
        shape = (len(offsets), self.shape[0], *size)
        return torch.full(shape, self.value + level, dtype=self.dtype)


def test_images_of_different_sizes_and_levels():
    one, other = Source(value=1), Source(value=5)
    other.shape = (1, 999, 3)
    found = read_patches([one, other], offsets(2), (4, 6), level=1)
    assert found.shape == (2, 11, 1, 4, 6)
    assert (found[0] == 2).all()
    assert (found[1] == 6).all()
    assert {level for _, level in one.asked} == {1}
    assert sum(n for n, _ in one.asked) == 11


def test_a_pool_of_ones_own():
    source = Source()
    with ThreadPoolExecutor(1, initializer=lambda: names.append(threading.get_ident())) as pool:
        names = []
        read_patches([source], offsets(1), (4, 4), pool=pool)
    assert source.threads == set(names)


def test_the_shared_pool_is_not_this_thread_and_is_kept():
    source = Source()
    for _ in range(20):
        read_patches([source], offsets(1), (4, 4))
    assert threading.get_ident() not in source.threads
    assert len(source.threads) <= read_module._COUNT


def test_a_forked_process_has_threads_of_its_own():
    """Also where another thread held the lock at the moment of the fork."""
    source = Source(value=3)
    read_patches([source], offsets(1), (4, 4))
    with read_module._threads._lock:
        child = os.fork()
        if child == 0:
            right = (read_patches([source], offsets(1), (4, 4)) == 3).all()
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    read_patches([source], offsets(1), (4, 4))


def test_an_error_of_a_window_comes_through():
    """And once it has come, nothing is left that reads."""
    good, bad = Source("good", delay=0.01), Source("bad", fail=1234)
    places = offsets(2, 400)
    places[0, 3, 0] = 1234
    with pytest.raises(OSError, match="bad: cannot read the window at row 1234"):
        read_patches([bad, good], places, (4, 4))
    asked = len(good.asked)
    time.sleep(0.05)
    assert len(good.asked) == asked < 100


@pytest.mark.parametrize(
    ("sources", "places", "message"),
    [
        (
            [Source("a"), Source("b", channels=3)],
            offsets(2),
            "same number of channels.*a with 1 and b with 3",
        ),
        (
            [Source("a"), Source("b", dtype=torch.uint8)],
            offsets(2),
            "same dtype.*a of torch.float32 and b of torch.uint8",
        ),
        ([Source("a")], offsets(2), r"\(1, n, 2\) to go with 1 images.*\(2, 11, 2\)"),
        ([], offsets(0), "at least one image"),
        ([Source("a")], offsets(1).float(), "got torch.float32"),
        ([Source("a")], offsets(1)[0], r"of shape \(11, 2\)"),
        ([TensorSource(torch.zeros(1, 4, 4), "b")], offsets(1), r"b: expected one of its levels"),
    ],
)
def test_errors(sources, places, message):
    level = 1 if isinstance(sources and sources[0], TensorSource) else 0
    with pytest.raises(ValueError, match=message):
        read_patches(sources, places, (4, 4), level)


def test_a_patch_size_is_two_numbers():
    with pytest.raises(ValueError, match=r"patch_size.*\(0, 4\)"):
        read_patches([Source()], offsets(1), (0, 4))
