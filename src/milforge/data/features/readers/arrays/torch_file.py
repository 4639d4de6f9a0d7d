"""Tensors in `.pt` files, loaded with `weights_only=True`: no code in them is run."""

import re
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from milforge.data.faults import BagError, Fault, bag_error
from milforge.data.features.readers.arrays.array_file import WHOLE, StoredArray
from milforge.data.features.readers.arrays.places import Places, Stamp, place_runs
from milforge.data.features.readers.bag_reader import Rows

_REMEDY = "save it as torch.save(tensor, path), or a dict of tensors"


@contextmanager
def open_torch(path: Path) -> Iterator[Mapping[str, StoredArray]]:
    """The tensor of the file under the empty key, or the tensors of its dict by their keys.

    Raises:
        BagError: where it holds anything else, code above all.
    """
    content = _load_file(path)
    tensors = {WHOLE: content} if isinstance(content, Tensor) else content
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise _not_tensors(path, f"{type(content).__name__}")
    yield {
        str(key): StoredArray(
            path=path,
            key=str(key),
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            load=partial(_load, tensor.detach()),
            find_places=partial(_find_places, path, list(tensors.values()), tensor),
        )
        for key, tensor in tensors.items()
    }


def _load_file(path: Path) -> Any:
    try:
        return _torch_load(path)
    except UnpicklingError as error:
        code = re.search(r"GLOBAL ([A-Za-z_][\w.]*\w) ", str(error))
        if code is None:
            raise RuntimeError("it is no file of torch.save") from error
        raise _not_tensors(path, f"code ({code[1]}), which was not run") from error


def _torch_load(path: Path) -> Any:
    try:
        # Mapped, the features are read when they are asked for, and 3 times as fast.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap can only be used" not in str(error):
            raise
    return torch.load(path, map_location="cpu", weights_only=True)  # written before PyTorch 1.6


def _load(tensor: Tensor, rows: Rows | None) -> Tensor:
    if rows is None:
        # A clone that copies the values of this tensor alone, whatever its storage holds besides.
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor[torch.from_numpy(rows)]


def _find_places(path: Path, tensors: list[Tensor], tensor: Tensor, stamp: Stamp) -> Places | None:
    """Where the values lie: in a member of the ZIP archive that a file of PyTorch is.

    The file says nowhere which member is whose, but the tensors are mapped from it: the memory that
    they lie in has the order, the sizes and the distances of the members.
    """
    if any(each.layout != torch.strided for each in tensors) or not tensor.is_contiguous():
        return None
    if not tensor.ndim or not tensor.numel() or tensor.dtype in (torch.bfloat16, torch.bool):
        return None
    try:
        dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    except TypeError:  # one that NumPy does not have
        return None
    storages = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}
    held = sorted((address, size) for address, size in storages.items() if size)
    members = _members(path)
    if members is None or [size for _, size in held] != [size for _, size in members]:
        return None
    moved = {address - start for (address, _), (start, _) in zip(held, members, strict=True)}
    if len(moved) != 1:
        return None
    start = np.array([tensor.data_ptr() - moved.pop()], np.int64)
    return place_runs(path, stamp, tuple(tensor.shape), dtype, start, tensor.shape[0])


def _members(path: Path) -> list[tuple[int, int]] | None:
    """Place and size of all values in the archive, in order; None where any is encoded."""
    found = []
    try:
        with ZipFile(path) as archive, path.open("rb") as file:
            for member in archive.infolist():
                _, _, name = member.filename.partition("/")
                if name == "byteorder" and archive.read(member) != sys.byteorder.encode():
                    return None
                if not name.startswith("data/") or not member.file_size:
                    continue
                file.seek(member.header_offset)
                header = file.read(30)
                if member.compress_type != ZIP_STORED or header[:4] != b"PK\3\4":
                    return None
                lengths = sum(struct.unpack("<HH", header[26:]))
                found.append((member.header_offset + len(header) + lengths, member.file_size))
    except BadZipFile:
        return None
    return sorted(found)


def _not_tensors(path: Path, found: str) -> BagError:
    return bag_error([Fault("", path, f"expected tensors alone, got {found}", _REMEDY)])
