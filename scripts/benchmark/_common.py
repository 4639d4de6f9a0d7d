"""What the benchmarks share: a clock for contestants that take turns, and a process's memory."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple


class Times(NamedTuple):
    """Milliseconds: by the clock on the wall, and of the processor, which other work disturbs less.

    Processor time counts every thread.
    """

    wall: float
    processor: float


def least_times(contestants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """The least times of each, the contestants taking turns, after one call of each unmeasured."""
    least = dict.fromkeys(contestants, Times(math.inf, math.inf))
    for repeat in range(repeats + 1):
        for name, contestant in contestants.items():
            wall, processor = perf_counter(), process_time()
            contestant()
            taken = 1e3 * (perf_counter() - wall), 1e3 * (process_time() - processor)
            if repeat > 0:
                least[name] = Times(*map(min, taken, least[name]))
    return least


def resident(field: str) -> float:
    """Resident memory of this process in MB: `VmRSS` now, `VmHWM` at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"expected {field} in /proc/self/status: memory is measured on Linux only")


def peak_of(step: Callable[[], object]) -> tuple[float, float]:
    """MB at the peak of a step: of the whole process, and above what it held before.

    To be called once in a process of its own, after what the step needs has been loaded. Unlike
    `ru_maxrss` it counts nothing of the parent process.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = resident("VmRSS")
    step()
    peak = resident("VmHWM")
    return peak, peak - before
