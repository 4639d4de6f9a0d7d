"""What the system says where a file cannot be read or written, though nothing is wrong with it."""

import errno
import re
from collections.abc import Iterator

_ROOM = "make room on that disk"
_LEAVE = "choose another folder"
_RIGHTS = "give this user the right to it, or choose another folder"
# What the system says where it does not write, and what helps.
WRITING = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: "make room within the quota of this user",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: _LEAVE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
}
_HANDLES = "allow more open files (ulimit -n 4096), or lower loader.num_workers"
_LOCKED = "wait until it is written, or set HDF5_USE_FILE_LOCKING=FALSE where no process writes it"
_MEMORY = "ask for more, or lower loader.num_workers, loader.batch_size or loader.max_instances"
_LONGEST = 200  # characters of what a library says
# What the libraries write that read files, of which some keep no number of the error.
_SAID = (
    (r"[Tt]oo many open files|errno = 24\b", "too many open files", _HANDLES),
    (r"unable to lock file", "a lock of another process, which may be writing it", _LOCKED),
    (
        r"[Cc]annot allocate memory|memory allocation failed|[Uu]nable to allocate|bad_alloc|"
        r"DefaultCPUAllocator|errno = 12\b|malloc of size",
        "too little memory",
        _MEMORY,
    ),
)


def refusal(error: BaseException) -> OSError | None:
    """The error of the system with its number, which is the error or stands behind it."""
    for seen in _behind(error):
        if isinstance(seen, OSError) and seen.errno is not None:
            return seen
    return None


def shortage(error: BaseException) -> tuple[str, str] | None:
    """What is lacking where a file cannot be read though nothing is wrong with it, and the remedy.

    Args:
        error: of a library that reads files; what stands behind it counts too.

    Returns:
        None where nothing is lacking: the file itself is at fault.

    Example:
        >>> shortage(OSError("file read failed: errno = 24"))[0]
        'too many open files (file read failed: errno = 24)'
        >>> shortage(ValueError("no magic number")) is None
        True
    """
    for seen in _behind(error):
        said = " ".join(str(seen).split())
        for pattern, what, remedy in _SAID:
            if re.search(pattern, said) or (remedy is _MEMORY and isinstance(seen, MemoryError)):
                return f"{what} ({said[:_LONGEST]})" if said else what, remedy
    return None


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error and those that stand behind it; where they form a ring, each of them once."""
    seen: BaseException | None = error
    known: set[int] = set()
    while seen is not None and id(seen) not in known:
        known.add(id(seen))
        yield seen
        seen = seen.__cause__ or seen.__context__
