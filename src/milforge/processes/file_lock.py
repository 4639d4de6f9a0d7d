"""A lock on an open file, of this process alone and gone with it, on every platform."""

import sys
from typing import IO, Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def lock(file: IO[Any]) -> None:
    """Locks a file that is open for writing, until it is closed.

    Unlike a lock that child processes would share, it is of this process alone.

    Raises:
        BlockingIOError: where another process holds it; on Windows a PermissionError.
        OSError: where the file system has no locks.
    """
    if sys.platform == "win32":
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
