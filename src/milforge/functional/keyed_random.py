"""Random numbers that depend on a seed per bag and on nothing else."""

import torch
from torch import Tensor

from milforge.functional.segment import segment_index

# Of splitmix64 (Steele, Lea and Flood 2014), as signed numbers; products wrap around.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_COLUMN = 0xD1B54A32D192ED03 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def keyed_uniform(seeds: Tensor, ptr: Tensor, size: int, columns: int = 1) -> Tensor:
    """Uniform random numbers for the instances of a packed batch.

    Those of a bag follow from its seed and from the place of an instance in the bag, so they are
    the same on every device, in every batch and process.

    Args:
        seeds: `(B,)` int64, a seed per bag, on any device.
        ptr: `(B + 1,)` int64, the bag boundaries.
        size: `N`, equal to `ptr[-1]`; given so that no GPU is asked for it.
        columns: `K`, numbers per instance.

    Returns:
        `(N, K)` float64 in [0, 1), on the device of `ptr`.

    Example:
        >>> both = keyed_uniform(torch.tensor([3, 3]), torch.tensor([0, 2, 4]), 4)
        >>> torch.equal(both[:2], both[2:])
        True
    """
    bag = segment_index(ptr, size)
    place = torch.arange(size, device=ptr.device) - ptr[bag] + 1
    column = torch.arange(columns, device=ptr.device) * _COLUMN
    start = _mix(seeds.to(ptr.device, non_blocking=True))[bag]
    bits = _mix((start + place * _STEP)[:, None] + column)
    return _shifted(bits, 11).double() * 2.0**-53


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shift to the right that brings in zeros; that of torch brings in the sign."""
    shifted: Tensor = (bits >> by) & (2 ** (64 - by) - 1)
    return shifted
