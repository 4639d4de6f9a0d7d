"""Whether a process may use the memory without which libraries end it before any error."""

from importlib.util import find_spec
from pathlib import Path

_LEAST = 2**30  # bytes of addresses: threads have 8 MiB each, and libraries map files


def check_memory_limit(least: int = _LEAST) -> None:
    """Checks the limit of the address space of this process (`ulimit -v`), where there is one.

    Close to it threads cannot be started, which C++ libraries answer by ending the process.

    Args:
        least: bytes that must be left.

    Raises:
        MemoryError: where less is left.
    """
    if find_spec("resource") is None:  # Windows
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):  # not on Linux
        return
    left = limit - pages * resource.getpagesize()
    if left < least:
        raise MemoryError(
            f"the limit of {limit / 2**30:.1f} GiB of address space (ulimit -v) leaves "
            f"{max(0, left) / 2**30:.1f} GiB, expected {least / 2**30:.1f} GiB or more"
        )
