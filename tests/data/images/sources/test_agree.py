"""The same windows from every kind of file, in every kind of process."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from milforge.data import ArraySource, SlideSource, TensorSource, TiffSource, close_files
from milforge.sampling import ImageSource

KINDS = ("npy", "zarr", "tiff", "strips", "slide")


@pytest.fixture(scope="module")
def files(tmp_path_factory, image, pyramid):
    """The image `(H, W, 3)` and a source of each kind for it."""
    folder = tmp_path_factory.mktemp("files")
    array = image(201, 151, 3)
    np.save(folder / "a.npy", array)
    zarr.create_array(folder / "a.zarr", data=array.transpose(2, 0, 1), chunks=(3, 32, 64))
    pyramid(folder / "a.tif", [array], "pages", compression="deflate")
    pyramid(folder / "b.tif", [array], "pages", compression="lzw", tile=None, rowsperstrip=20)
    return array, {
        "npy": ArraySource(folder / "a.npy"),
        "zarr": ArraySource(folder / "a.zarr"),
        "tiff": TiffSource(folder / "a.tif"),
        "strips": TiffSource(folder / "b.tif"),
        "slide": SlideSource(folder / "a.tif"),
    }


def places(count=40):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-40, 220, (count, 2), generator=generator)


def test_they_are_image_sources(files):
    for source in files[1].values():
        assert isinstance(source, ImageSource)
        assert source.shape == (3, 201, 151)
        assert source.name in repr(source)


@given(
    offsets=st.lists(st.tuples(st.integers(-250, 450), st.integers(-250, 450)), max_size=4),
    size=st.tuples(st.integers(1, 250), st.integers(1, 200)),
)
def test_they_read_the_same(files, cut, offsets, size):
    array, sources = files
    expected = np.zeros((len(offsets), 3, *size), np.uint8)
    for window, offset in zip(expected, offsets, strict=True):
        window[:] = cut(array, *offset, *size)
    asked = torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2)
    memory = TensorSource(torch.from_numpy(array).permute(2, 0, 1))
    for name, source in {**sources, "tensor": memory}.items():
        found = source.read(asked, size)
        assert found.dtype == torch.uint8, name
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_read_what_one_thread_reads(kind, files):
    source = files[1][kind]
    expected = [source.read(each, (50, 40)) for each in places().split(1)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: source.read(each, (50, 40)), places().split(1)))
    assert torch.equal(torch.cat(found), torch.cat(expected))


class Windows(Dataset):
    """Windows as a data set, that states the process it was read by."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(places())

    def __getitem__(self, index):
        return self.source.read(places()[[index]], (50, 40))[0], os.getpid()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.nightly)])
def test_workers_read_what_one_process_reads(method, files):
    """The parent has every file open, and reads on while its workers do."""
    sources = [files[1][kind] for kind in KINDS]
    for source in sources:
        expected = source.read(places(), (50, 40))
    data = torch.utils.data.ConcatDataset([Windows(source) for source in sources])
    found, processes = [], set()
    for window, process in DataLoader(
        data, batch_size=None, num_workers=2, multiprocessing_context=method
    ):
        found.append(window)
        processes.add(process)
        assert torch.equal(sources[0].read(places()[:1], (50, 40))[0], expected[0])
    assert len(processes - {os.getpid()}) == 2
    assert torch.equal(torch.stack(found), expected.repeat(len(sources), 1, 1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_pickled_as_its_path(kind, files):
    source = files[1][kind]
    source.read(places(), (50, 40))
    data = pickle.dumps(source)
    assert len(data) < 1000
    close_files()
    before = open_files()
    copy = pickle.loads(data)
    assert open_files() == before  # nothing is opened before it is read
    assert (copy.name, copy.shape, copy.levels) == (source.name, source.shape, source.levels)
    assert torch.equal(copy.read(places(), (50, 40)), source.read(places(), (50, 40)))


def open_files():
    """What this process holds open or mapped of regular files under a temporary folder."""
    targets = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{fd}")
    ]
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    found = {each for each in (*targets, *mapped) if "pytest-of" in each}
    return sorted(each for each in found if not each.endswith(".pt"))  # caches of other tests


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_opened_once_and_closed(kind, files):
    source = files[1][kind]
    close_files()
    assert open_files() == []
    for _ in range(3):
        source.read(places(), (50, 40))
        type(source)(source.name).read(places(), (50, 40))
    links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert links.count(source.name) <= 1
    # Zarr opens a chunk a time, and OpenSlide the file while it reads.
    assert open_files() == ([] if kind in ("zarr", "slide") else [source.name])
    close_files()
    assert open_files() == []


def test_a_file_that_fails_to_open_is_closed(tmp_path):
    (tmp_path / "a.tif").write_text("a text")
    for kind in (TiffSource, SlideSource):
        with pytest.raises(ValueError, match=r"a.tif"):
            kind(tmp_path / "a.tif")
    assert open_files() == []
