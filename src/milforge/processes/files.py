"""Files that are whole or not there, and what is no file."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import time
from typing import Any

from milforge.processes.file_lock import lock
from milforge.processes.system_errors import WRITING, refusal

_LEFT = 3600.0  # seconds after which a file that nobody writes to is left over


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside the given one to write to; moved there once all is written.

    An error in the body leaves what was there before, and nothing half-written. Where the disk is
    full, or may not be written to, the error names the file.

    Raises:
        OSError: where it cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a" / "b.txt"
        >>> with atomic_path(target) as path:
        ...     _ = path.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    # Processes of several machines share folders, and may share a number.
    partial = path.with_name(f".{path.name}.{token_hex(8)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except Exception as error:  # torch and others make errors of their own of those of the system
        cause = refusal(error)
        if cause is None or cause.errno not in WRITING:
            raise
        raise OSError(
            f"{path} cannot be written ({cause.strerror or cause}): {WRITING[cause.errno]}"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_left_over(folder: Path) -> None:
    """Removes what processes that were killed had begun to write by `atomic_path`.

    That is what nobody has written to for an hour, and what no process holds a lock of.

    Args:
        folder: of the files; those in folders within it are left.
    """
    for path in folder.glob(".*.partial"):
        with suppress(OSError):  # another process was faster, or may do more
            if time() - path.stat().st_mtime > _LEFT and not _is_locked(path):
                path.unlink()


def _is_locked(path: Path) -> bool:
    with path.open("r+b") as file:
        try:
            lock(file)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:  # a file system without locks: its age has to do
            return False
    return False


def kind_of(path: Path) -> str:
    """What lies at a path, in words; to open a pipe would wait for ever.

    Example:
        >>> kind_of(Path("/dev/null")), kind_of(Path("/"))
        ('a device', 'a folder')
    """
    mode = path.stat().st_mode
    kinds = {
        "a file": stat.S_ISREG,
        "a folder": stat.S_ISDIR,
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
    }
    return next((name for name, fits in kinds.items() if fits(mode)), "a device")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: where it is damaged; names it.
        OSError: where it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = path.write_text("[1, 2")
        >>> read_json(path)
        Traceback (most recent call last):
        ...
        ValueError: a.json is damaged (Expecting ',' delimiter: line 1 column 6 (char 5))
    """
    content = path.read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # one may be nested as deep as it is long
        raise ValueError(f"{path.name} is damaged ({error})") from error
