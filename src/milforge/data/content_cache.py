"""Tensors in files that are named by all that they depend on."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from zipfile import ZipFile

import torch
from torch import Tensor

from milforge.processes.file_lock import lock
from milforge.processes.files import atomic_path, remove_left_over
from milforge.processes.system_errors import refusal


class ContentCache:
    """Named tensors in a folder, made when they are first asked for and found from then on.

    An entry is one file, named by a key (see `content_key`) that covers all that its tensors depend
    on: it can be wrong for nothing, so runs, data sets and options may share the folder, and one
    that holds all may be read-only. A file that is not whole, or not what its name says, is made
    again. Any number of processes may read
    and write at once: a file is whole or not there, and what a process that was killed had begun to
    write is removed by a later one. Tensors are mapped into memory, and of some
    rows only these are read; what is changed in memory does not reach the file.

    Args:
        folder: folder of the files; it is made where it is missing.
        option: the key of the config that names the folder, for messages.
        checksums: whether every read compares a whole file with its checksums (34 ms for 41 MB);
            else only its size and structure are looked at.

    Raises:
        OSError: where the folder cannot be made.

    Example:
        >>> import tempfile
        >>> cache = ContentCache(tempfile.mkdtemp(), "data.cache")
        >>> key = content_key("squares", 3)
        >>> for _ in range(2):
        ...     print(cache.get(key, lambda: print("made") or {"x": torch.arange(3) ** 2}))
        made
        {'x': tensor([0, 1, 4])}
        {'x': tensor([0, 1, 4])}
    """

    def __init__(self, folder: str | Path, option: str, *, checksums: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.option = option
        self.checksums = checksums
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_left_over(self.folder)

    def get(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of that key by their names.

        Args:
            key: of 32 hexadecimal digits.
            make: gives them where there is no file, or none that is whole.

        Raises:
            OSError: where the file cannot be written.
        """
        found = self.find(key)
        if found is None:
            found = dict(make())
            self.put(key, found)
        return found

    def find(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of that key, where there is a whole file of them."""
        path = self._path(key)
        try:
            if self.checksums:
                with ZipFile(path) as file:  # which the format of torch is
                    if file.testzip() is not None:
                        return None
            stored = torch.load(path, mmap=True, weights_only=True)
            tensors = {str(name): each for name, each in stored["tensors"].items()}
            whole = stored["key"] == key and all(isinstance(t, Tensor) for t in tensors.values())
            return tensors if whole else None
        except Exception:  # a damaged file fails in many ways, and is made again whichever it is
            return None

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Writes the tensors of that key, in place of those that there may be.

        Raises:
            OSError: where the file cannot be written.
        """
        stored = {"key": key, "tensors": {name: _alone(each) for name, each in tensors.items()}}
        try:
            with atomic_path(self._path(key)) as partial, partial.open("wb") as file:
                with suppress(OSError):  # where there are no locks, its age protects it
                    lock(file)
                torch.save(stored, file)
        except (OSError, RuntimeError) as error:  # torch makes an error of its own of it
            raise OSError(
                f"{self.folder}: expected a folder with room to write to as {self.option}, got: "
                f"{refusal(error) or error}: make room, name another, or leave {self.option}=null"
            ) from error

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.pt"


def _alone(tensor: Tensor) -> Tensor:
    """A tensor that shares no memory with more, all of which would be written."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def content_key(*parts: object) -> str:
    """A name for all that something depends on, of 32 hexadecimal digits.

    Args:
        parts: in order; tensors count by dtype, shape and values, all else by its `repr`.

    Example:
        >>> content_key("grid", torch.zeros(2)) == content_key("grid", torch.zeros(1, 2))
        False
    """
    digest = hashlib.sha256(b"1")  # the format of the files
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            # Bytes, as NumPy has no bfloat16.
            raw = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().data)
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]
