"""Cutting patches out of images in memory, against padding the batch and against a plain loop.

    OMP_NUM_THREADS=1 python scripts/benchmark/patches.py

The images are float32, the places drawn uniformly such that a patch lies in its image: the plain
loop then need not look whether it does, and padding is not needed at all. Padding is what public
ports of attention sampling do: `torch.nn.functional.pad` of the whole batch by half a patch on each
side, then a loop of slices. The plain loop copies slices of the batch as it is into one tensor,
which each call allocates, as it must where the patches of a step outlive it. All three must give
the same patches, or there is no table.

The contestants take turns; a time is the least of the repetitions, which other work on the machine
disturbs least, forward, on the wall clock; ratios are given in processor time too.
"""

import argparse
import os
import sys
from typing import NamedTuple

import torch
from _common import Times, least_times
from torch import Tensor

from milforge.sampling import extract_patches


class Case(NamedTuple):
    """Images and patches: of so many channels, so many patches an image, pixels a side."""

    channels: int
    patches: int
    patch: int


CASES = (Case(1, 10, 50), Case(3, 64, 100))


def slices(image: Tensor, corners: list[list[list[int]]], patch: int) -> Tensor:
    """The plain loop: `(B, n, C, patch, patch)`."""
    patches = image.new_empty(len(image), len(corners[0]), image.shape[1], patch, patch)
    for whole, cut, places in zip(image, patches, corners, strict=True):
        for i, (row, column) in enumerate(places):
            cut[i] = whole[:, row : row + patch, column : column + patch]
    return patches


def padded_slices(image: Tensor, corners: list[list[list[int]]], patch: int) -> Tensor:
    """The same of a padded copy of the batch."""
    margin = patch // 2
    padded = torch.nn.functional.pad(image, (margin, margin, margin, margin))
    moved = [[[row + margin, column + margin] for row, column in each] for each in corners]
    return slices(padded, moved, patch)


def measure(case: Case, images: int, side: int, repeats: int) -> dict[str, Times]:
    """Times of each contestant, after all gave the same patches."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(images, case.channels, side, side, generator=generator)
    free = side - case.patch + 1
    offsets = torch.randint(free, (images, case.patches, 2), generator=generator)
    corners, size = offsets.tolist(), (case.patch, case.patch)
    contestants = {
        "ours": lambda: extract_patches(image, offsets, size),
        "loop": lambda: slices(image, corners, case.patch),
        "padding": lambda: padded_slices(image, corners, case.patch),
    }
    expected = contestants["loop"]()
    for name, contestant in contestants.items():
        if not torch.equal(contestant(), expected):
            sys.exit(f"error: {name} gives other patches than the loop")
    return least_times(contestants, repeats)


def ratios(one: Times, other: Times) -> str:
    """How many times longer the other takes: on the wall clock (of the processor)."""
    return f"{other.wall / one.wall:.2f} ({other.processor / one.processor:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=1500, help="pixels a side of an image")
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {os.cpu_count()} cores; "
        f"{options.images} images of {options.side} x {options.side}, least of {options.repeats} "
        "interleaved repetitions\n"
    )
    print(
        "| patches an image | ours, ms | loop, ms | padding, ms | loop / ours (processor) | "
        "padding / ours (processor) |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        times = measure(case, options.images, options.side, options.repeats)
        cells = [f"{each.wall:.2f}" for each in times.values()]
        cells += [ratios(times["ours"], times[name]) for name in ("loop", "padding")]
        print(
            f"| {case.patches} of {case.patch} x {case.patch} x {case.channels} | "
            f"{' | '.join(cells)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
