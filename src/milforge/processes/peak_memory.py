"""How much memory a run takes at most."""

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

_OWN = Path("/proc/self")  # Linux alone has it


class PeakMemory(NamedTuple):
    """The most memory that was taken at a time, in bytes, and of what: `GPU` or `process`."""

    bytes: int
    of: str


def forget_peak() -> bool:
    """Begins to measure anew; returns whether the peak of the process could be forgotten.

    Jobs of a sweep may share a process, and the peak of one is not that of the next.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        (_OWN / "clear_refs").write_text("5")
        return True
    return False


def peak_memory(*, on_gpu: bool, is_fresh: bool) -> PeakMemory | None:
    """The peak since `forget_peak`, of this process alone.

    On a GPU it is what tensors took, on a CPU the resident memory of the process, libraries
    included; not that of the processes that read bags.

    Args:
        on_gpu: whether the network is on a GPU.
        is_fresh: what `forget_peak` returned.

    Returns:
        The peak; None where it is not known.
    """
    if on_gpu:
        return PeakMemory(torch.cuda.max_memory_allocated(), "GPU")
    if not is_fresh:
        return None
    with suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB$", (_OWN / "status").read_text(), re.M)
        return None if found is None else PeakMemory(1024 * int(found[1]), "process")
    return None
