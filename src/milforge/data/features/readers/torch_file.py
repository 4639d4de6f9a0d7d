"""Tensors in `.pt` files, loaded with `weights_only=True`: no code in them is run."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from milforge.data.faults import BagError, Fault, bag_error
from milforge.data.features.readers.array_file import WHOLE, StoredArray
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


def _not_tensors(path: Path, found: str) -> BagError:
    return bag_error([Fault("", path, f"expected tensors alone, got {found}", _REMEDY)])
