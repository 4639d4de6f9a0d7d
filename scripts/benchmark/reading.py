"""How fast bags become batches, against the library of their files and against a memory copy.

    OMP_NUM_THREADS=1 python scripts/benchmark/reading.py --layout clam --bags 50
    OMP_NUM_THREADS=1 python scripts/benchmark/reading.py --layout contiguous --threads 2

Writes bags of 1,000 to 20,000 instances (log-uniform) of 1,024 features to a temporary folder:

- `clam`: HDF5 with a chunk for every row, features and coords appended in batches of 512 as CLAM
  does; float32.
- `trident`: HDF5 with a chunk for every row, written at once as TRIDENT does; float32.
- `contiguous`: HDF5 with each dataset in one piece; float16.
- `pt`, `npy`: files of PyTorch and of NumPy; float16.

The contestants take turns and read all bags: the library of the file (`h5py`, for the others
`torch.load` and `numpy.load`), features and, of `clam` and `trident`, coords, one bag after the
other; a copy of as many bytes from memory to memory that is used again; and the loader as a fit has
it, without a model: batches of at most 50,000 instances, in its first epoch, in which it finds the
places of the rows in the files and checks their values, and in later ones. What is printed is
how many times as fast as the library the loader is, over all of the epochs, in the first and in
later ones, from the least time of each; below, the same against the copy. The files have just been
written, so they are read from the memory of the operating system.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from _common import least_times

from milforge.data import FeatureBags, TrainBatches, collate_bags, open_reader
from milforge.data.loading.read_ahead import ReadAhead
from milforge.data.loading.tables import Tables

WIDTH, BATCH = 1024, 512
EPOCHS = 10  # of a run, by which the first one counts
MOST_INSTANCES = 50_000  # of a batch, as in configs/loader/disk.yaml


def append_rows(path: Path, arrays: dict[str, np.ndarray[Any, Any]], first: bool) -> None:
    """Rows at the end of datasets that have a chunk for every row."""
    with h5py.File(path, "w" if first else "a") as file:
        for key, rows in arrays.items():
            if first:
                shape = (1, *rows.shape[1:])
                data = file.create_dataset(
                    key, rows.shape, rows.dtype, chunks=shape, maxshape=(None, *rows.shape[1:])
                )
                data[:] = rows
            else:
                data = file[key]
                data.resize(len(data) + len(rows), axis=0)
                data[-len(rows) :] = rows


def write_bag(layout: str, path: Path, x: np.ndarray[Any, Any]) -> None:
    """One bag, as the tool of that name writes it."""
    arrays = {"features": x, "coords": np.stack(np.divmod(np.arange(len(x)), 100), 1) * 256}
    if layout == "clam":
        for start in range(0, len(x), BATCH):
            rows = {key: each[start : start + BATCH] for key, each in arrays.items()}
            append_rows(path, rows, start == 0)
    elif layout == "trident":
        append_rows(path, arrays, True)
    elif layout == "contiguous":
        with h5py.File(path, "w") as file:
            file["features"] = x
    elif layout == "npy":
        np.save(path, x)
    else:
        torch.save(torch.from_numpy(x), path)


def write_bags(layout: str, folder: Path, count: int, largest: int) -> None:
    """All bags; each is the first rows of one array, which saves time."""
    rng = np.random.default_rng(0)
    dtype = np.float32 if layout in ("clam", "trident") else np.float16
    some = rng.standard_normal((largest, WIDTH), np.float32).astype(dtype)
    suffix = {"npy": ".npy", "pt": ".pt"}.get(layout, ".h5")
    for number, size in enumerate(np.exp(rng.uniform(np.log(1000), np.log(largest), count))):
        write_bag(layout, folder / f"bag_{number}{suffix}", some[: int(size)])
    # Files that have just been written are not trusted to stay as they are.
    time.sleep(2.1)


def library(layout: str, folder: Path) -> Callable[[], None]:
    """Reads every file with its library and throws it away."""
    paths = sorted(folder.iterdir())

    def read() -> None:
        for path in paths:
            if layout == "npy":
                np.load(path)
            elif layout == "pt":
                torch.load(path, weights_only=True)
            else:
                with h5py.File(path) as file:
                    for key in file:
                        file[key][()]

    return read


def memory_copy(bags: FeatureBags) -> Callable[[], None]:
    """Copies bags of these sizes to one place in memory, from one that is not in the cache."""
    most = int(bags.sizes.max())
    source = torch.ones(2 * most, *bags[0].x.shape[1:], dtype=bags[0].x.dtype)
    target = torch.empty_like(source[:most])

    def copy() -> None:
        for number, size in enumerate(bags.sizes.tolist()):
            start = most * (number % 2)
            target[:size].copy_(source[start : start + size])

    return copy


class Epochs:
    """Epochs of the loader over the bags of a folder."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads, self.tables = folder, threads, Tables()
        self.sizes = FeatureBags(open_reader(folder)).sizes
        self.empty = collate_bags([FeatureBags(open_reader(folder))[0]]).without_bags()
        self.bags = FeatureBags(open_reader(folder), sizes=self.sizes)

    def later(self) -> None:
        """An epoch in which it is known where the rows lie."""
        batches = TrainBatches(
            len(self.bags), 64, 0, sizes=self.sizes, max_instances=MOST_INSTANCES
        )
        read = ReadAhead(self.bags, self.empty, self.tables, threads=self.threads, coords=False)
        for _ in read(batches):
            pass

    def first(self) -> None:
        """The first epoch, after which others are later ones."""
        self.bags = FeatureBags(open_reader(self.folder), sizes=self.sizes)
        self.later()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    layouts = ("clam", "trident", "contiguous", "pt", "npy")
    parser.add_argument("--layout", choices=layouts, required=True)
    parser.add_argument("--bags", type=int, default=50)
    parser.add_argument("--largest", type=int, default=20_000, help="instances of a bag, at most")
    parser.add_argument("--threads", type=int, default=1, help="threads of the loader")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repetitions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bags(options.layout, folder, options.bags, options.largest)
        epochs = Epochs(folder, options.threads)
        times = least_times(
            {
                "library": library(options.layout, folder),
                "first": epochs.first,
                "later": epochs.later,
                "copy": memory_copy(FeatureBags(open_reader(folder), sizes=epochs.sizes)),
            },
            options.repeats,
        )
    first, later = times["first"].wall, times["later"].wall
    whole = (first + (EPOCHS - 1) * later) / EPOCHS
    for reference, time_of in (("library", times["library"]), ("memory copy", times["copy"])):
        print(
            f"{options.layout}: loader/{reference} {time_of.wall / whole:.2f}, first epoch "
            f"{time_of.wall / first:.2f}, later epochs {time_of.wall / later:.2f}"
        )
    rates = (f"{name} {epochs.sizes.sum() / each.wall / 1e3:.2f}" for name, each in times.items())
    print(f"million instances a second with {options.threads} thread(s): {', '.join(rates)}")


if __name__ == "__main__":
    main()
