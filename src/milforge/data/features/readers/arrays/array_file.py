"""Arrays in files: HDF5, NumPy's `.npy` and PyTorch's `.pt`, one way to read them all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.faults import BagError, Fault, bag_error
from milforge.data.features.readers.arrays.places import Places, Stamp
from milforge.data.features.readers.bag_reader import Rows
from milforge.processes.files import kind_of
from milforge.processes.system_errors import shortage

HDF5_SUFFIXES = (".h5", ".hdf5")
ARRAY_SUFFIXES = (*HDF5_SUFFIXES, ".npy", ".pt")
WHOLE = ""  # the key of a file that is one array and not a collection of them
OWN_FOLDER = None  # the option that names the key of a file whose folder says what it holds


@dataclass(frozen=True)
class StoredArray:
    """An array in an open file, not yet read.

    Args:
        path: the file.
        key: its name in the file, empty where the file is the array.
        shape: its shape.
        dtype: its dtype by NumPy's or PyTorch's name.
        load: reads it, or the rows of those numbers.
        find_attribute: what the file says about it under that name, None where it says nothing.
        find_places: where its values lie in the file, given the stamp of the file; None where the
            library must decode them.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[Rows | None], NDArray[Any] | Tensor]
    find_attribute: Callable[[str], Any] = lambda name: None
    find_places: Callable[[Stamp], Places | None] = lambda stamp: None

    def read(self, rows: Rows | None = None) -> Tensor:
        """The array, or some of its rows, in memory of its own.

        Raises:
            BagError: where the file is damaged.
        """
        values = self._load(rows)
        return values if isinstance(values, Tensor) else torch.from_numpy(values)

    def read_features(self, rows: Rows | None = None) -> Tensor:
        """The same for features: float16 stays, all other numbers become float32.

        Few libraries know bfloat16 and smaller floats, and integers and float64 gain nothing.

        Raises:
            BagError: where the file is damaged.
        """
        return as_features(self._load(rows))

    def read_values(self, rows: Rows | None = None) -> NDArray[Any]:
        """The same for labels, which may be words.

        Raises:
            BagError: where the file is damaged.
        """
        return np.asarray(self._load(rows))

    def without_single_axis(self) -> "StoredArray":
        """Of shape `(1, N, D)` or `(N, 1, D)`, as some tools write, the same of shape `(N, D)`."""
        if len(self.shape) != 3 or 1 not in self.shape[:2]:
            return self
        axis = self.shape.index(1)
        shape = (*self.shape[:axis], *self.shape[axis + 1 :])
        return replace(self, shape=shape, load=partial(_load_without, self.load, axis))

    def places(self, stamp: Stamp) -> Places | None:
        """Where its values lie in the file; None where the library must read them.

        Raises:
            BagError: where the file is damaged.
        """
        with name_damage(self.path):
            found = self.find_places(stamp)
        return None if found is None else replace(found, shape=self.shape)

    def _load(self, rows: Rows | None) -> NDArray[Any] | Tensor:
        with name_damage(self.path):
            return self.load(rows)


def as_features(values: NDArray[Any] | Tensor) -> Tensor:
    """Numbers of a file as features: float16 stays, all others become float32."""
    if isinstance(values, Tensor):
        return values if values.dtype == torch.float16 else values.to(torch.float32)
    if values.dtype != np.float16:
        with np.errstate(over="ignore"):  # what is infinite then is found later
            values = values.astype(np.float32, copy=False)
    return torch.from_numpy(values)


def _load_without(
    load: Callable[[Rows | None], NDArray[Any] | Tensor], axis: int, rows: Rows | None
) -> NDArray[Any] | Tensor:
    if axis == 1:
        return load(rows)[:, 0]
    values = load(None)[0]
    return values if rows is None else values[rows]


@contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, StoredArray]]:
    """The arrays of a file by their keys; it is closed on leaving.

    A file that is one array has it under the empty key.

    Raises:
        BagError: where the file is missing, damaged, may not be read, or holds something else.
    """
    from milforge.data.features.readers.arrays.hdf5 import open_hdf5
    from milforge.data.features.readers.arrays.npy import open_npy
    from milforge.data.features.readers.arrays.torch_file import open_torch

    if path.exists() and not path.is_file():
        raise bag_error([Fault("", path, f"expected a file, got {kind_of(path)}", "remove it")])
    openers = {".npy": open_npy, ".pt": open_torch}
    file = openers.get(path.suffix.lower(), open_hdf5)(path)
    with name_damage(path):
        arrays = file.__enter__()
    try:
        yield arrays
    finally:
        file.__exit__(None, None, None)


def find_array(
    arrays: Mapping[str, StoredArray], keys: Sequence[str], path: Path, option: str | None
) -> StoredArray:
    """The array of the first key that there is.

    Args:
        arrays: of a file, by their keys.
        keys: that are looked for; a file that is one array has it under each of them.
        path: the file.
        option: by which a user names the key. `OWN_FOLDER`: there is none, because the folder says
            what its files hold; the one array of such a file may be called anything.

    Raises:
        BagError: where there is none.
    """
    for key in (*keys, WHOLE):
        if key in arrays:
            return arrays[key]
    if option is OWN_FOLDER and len(arrays) == 1:
        return next(iter(arrays.values()))
    present = ", ".join(arrays) or "none"
    message = f"expected the key {' or '.join(keys)}, got the keys {present}"
    remedy = "write the file again" if option is None else f"name the right one by {option}"
    raise bag_error([Fault("", path, message, remedy)])


@contextmanager
def name_damage(path: Path) -> Iterator[None]:
    """Turns whatever a library raises on a file into an error that names it."""
    try:
        yield
    except BagError:
        raise
    except Exception as error:  # damaged files fail in many ways, a TokenError of NumPy's even
        message, remedy = _diagnose(path, error)
        raise bag_error([Fault("", path, message, remedy)]) from error


def _diagnose(path: Path, error: Exception) -> tuple[str, str]:
    lacking = shortage(error)
    if lacking is not None:  # to write the bag again would help nothing
        return f"expected a file that can be read, got {lacking[0]}", lacking[1]
    # The libraries wrap what the system says, each in its own way: so it is asked again.
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        return "expected a file, found none", "check the path, or write the bag again"
    except PermissionError:
        return (
            "expected a file that may be read, got no permission",
            f"let this user read it (chmod u+r {path.name}, or ask its owner)",
        )
    except OSError as cause:
        return f"expected a file that can be read, got {cause.strerror}", "check the disk"
    if empty:
        return "expected arrays, got a file of 0 bytes", "write the bag again, or remove the file"
    reason = " ".join(str(error).split()) or type(error).__name__
    if "filter" in reason and "not" in reason:
        return (
            f"expected a compression that HDF5 has built in, got one that it lacks ({reason})",
            "install the plugin (pip install hdf5plugin), or write the bag again with gzip",
        )
    return (
        f"expected a whole {path.suffix} file, got a truncated or damaged one ({reason})",
        "write or copy the bag again, or remove the file",
    )
