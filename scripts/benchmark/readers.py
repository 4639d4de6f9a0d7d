"""Windows per second of each reader, with one thread and with two.

    pip install -e ".[slides]" -c constraints.txt
    OMP_NUM_THREADS=1 python scripts/benchmark/readers.py --slide CMU-1-Small-Region.svs

Windows of 256 x 256 at random places of level 0, four a task, as `read_patches` asks for them. The
generated pyramid is smooth waves with noise, in tiles (chunks) of 256 x 256, written to a temporary
folder: as JPEG of quality 80 (`TiffSource`, `SlideSource`), as Deflate (`TiffSource`), as Zarr with
its default compression, as `.npy`, and held in memory. The files have just been written, so they
are read from the memory of the operating system: what is measured is finding, decoding and copying.
The readers take turns; a number is the best of the repetitions, which other work on the machine
disturbs least. Where two readers open the same file, how far their pixels differ is printed first.
`low` is the time of one view of 500 pixels along the longer side from level 0 alone, `MB` what it
takes at its peak beyond what the process held before, in a process of its own.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from _common import least_times, peak_of
from torch import Tensor

from milforge.data import (
    ArraySource,
    SlideSource,
    TensorSource,
    TiffSource,
    low_resolution,
    open_source,
)
from milforge.sampling import ImageSource, read_patches

WINDOW = (256, 256)
TILE = 256
KINDS: dict[str, Callable[[Path], ImageSource]] = {
    "TiffSource": TiffSource,
    "SlideSource": SlideSource,
    "ArraySource": ArraySource,
    "TensorSource": lambda path: TensorSource(
        torch.from_numpy(np.load(path)).permute(2, 0, 1).contiguous(), "in memory"
    ),
}


def strips(side: int) -> Iterator[np.ndarray[Any, Any]]:
    """The image, `TILE` rows at a time: waves with noise."""
    generator = np.random.default_rng(0)
    columns = np.arange(side)
    for top in range(0, side, TILE):
        rows = np.arange(top, min(top + TILE, side))[:, None]
        waves = [np.sin(rows / (40 + 9 * c)) + np.cos(columns / (55 - 9 * c)) for c in range(3)]
        noise = generator.normal(0, 6, (len(rows), side, 3))
        yield (128 + 50 * np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)


def tiles(side: int) -> Iterator[np.ndarray[Any, Any]]:
    """The same in square tiles, those at the edges filled up."""
    for strip in strips(side):
        for left in range(0, side, TILE):
            tile = strip[:, left : left + TILE]
            fill = [(0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0)]
            yield np.pad(tile, fill, mode="edge")


def generate(folder: Path, side: int) -> list[tuple[str, str, Path]]:
    """Writes the image in each format: reader, format, path."""
    shape = (side, side, 3)
    for name, options in {
        "jpeg": {"compression": "jpeg", "compressionargs": {"level": 80}},
        "deflate": {"compression": "deflate"},
    }.items():
        tifffile.imwrite(
            folder / f"{name}.tif",
            tiles(side),
            shape=shape,
            dtype="uint8",
            tile=(TILE, TILE),
            photometric="rgb",
            **options,
        )
    array = np.lib.format.open_memmap(folder / "image.npy", "w+", np.uint8, shape)
    stored = zarr.create_array(
        folder / "image.zarr", shape=shape, dtype="uint8", chunks=(TILE, TILE, 3)
    )
    for i, strip in enumerate(strips(side)):
        rows = slice(i * TILE, i * TILE + len(strip))
        array[rows], stored[rows] = strip, strip
    array.flush()
    return [
        ("TiffSource", "TIFF, JPEG", folder / "jpeg.tif"),
        ("SlideSource", "TIFF, JPEG", folder / "jpeg.tif"),
        ("TiffSource", "TIFF, Deflate", folder / "deflate.tif"),
        ("ArraySource", "Zarr", folder / "image.zarr"),
        ("ArraySource", ".npy", folder / "image.npy"),
        ("TensorSource", "memory", folder / "image.npy"),
    ]


def places(source: ImageSource, count: int) -> Tensor:
    """Corners of windows that lie in the image, `(1, count, 2)`."""
    generator = torch.Generator().manual_seed(0)
    _, height, width = source.shape
    return torch.stack(
        [
            torch.randint(0, side - window + 1, (1, count), generator=generator)
            for side, window in zip((height, width), WINDOW, strict=True)
        ],
        dim=-1,
    )


def difference(one: ImageSource, other: ImageSource, count: int) -> tuple[int, float]:
    """Largest and mean difference of the pixels that two readers see."""
    corners = places(one, count)[0]
    apart = (one.read(corners, WINDOW).int() - other.read(corners, WINDOW).int()).abs()
    return int(apart.max()), float(apart.float().mean())


class FullOnly:
    """A source of level 0 alone."""

    def __init__(self, source: ImageSource) -> None:
        self.name, self.shape, self.read = source.name, source.shape, source.read
        self.levels = source.levels[:1]


def view(source: ImageSource) -> Tensor:
    """A view of 500 pixels along the longer side."""
    return low_resolution(FullOnly(source), scale=min(1.0, 500 / max(source.shape[1:])))


def measure_view(kind: str, path: Path) -> None:
    """Prints what a view takes: seconds and MB."""
    source = KINDS[kind](path)
    source.read(torch.tensor([[0, 0]]), (8, 8))  # the packages are loaded
    start = perf_counter()
    _, more = peak_of(lambda: view(source))
    print(perf_counter() - start, more)


def view_of(kind: str, path: Path) -> tuple[float, float]:
    """Seconds and MB of a view, in a process of its own."""
    command = [sys.executable, __file__, "--view", kind, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, more = map(float, run.stdout.split())
    return seconds, more


def print_table(title: str, readers: list[tuple[str, str, Path]], count: int, repeats: int) -> None:
    """Windows per second of each reader, and its view."""
    sources = {(kind, what): KINDS[kind](path) for kind, what, path in readers}
    first = next(iter(sources.values()))
    print(f"\n{title}: {first.shape[2]} x {first.shape[1]} pixels, {len(first.levels)} level(s)\n")
    by_path: dict[Path, list[tuple[str, str]]] = {}
    for kind, what, path in readers:
        if kind in ("TiffSource", "SlideSource"):
            by_path.setdefault(path, []).append((kind, what))
    for one, other in (keys for keys in by_path.values() if len(keys) == 2):
        largest, mean = difference(sources[one], sources[other], count)
        print(f"{one[0]} and {other[0]}, {one[1]}: differ by {largest} at most, {mean:.3f} in mean")
    contestants: dict[str, Callable[[], object]] = {}
    pools = {threads: ThreadPoolExecutor(threads) for threads in (1, 2)}
    for key, source in sources.items():
        for threads, pool in pools.items():
            corners = places(source, count)
            contestants[f"{key} {threads}"] = lambda s=source, c=corners, p=pool: read_patches(
                [s], c, WINDOW, pool=p
            )
    times = least_times(contestants, repeats)
    print("\n| reader | format | 1 thread | 2 threads | low, s | MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, what, path in readers:
        speeds = [1e3 * count / times[f"{(kind, what)} {threads}"].wall for threads in pools]
        seconds, more = view_of(kind, path)
        cells = " | ".join(f"{speed:,.0f}" for speed in speeds)
        print(f"| `{kind}` | {what} | {cells} | {seconds:.2f} | {more:.0f} |")
    for pool in pools.values():
        pool.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path, help="a slide, to be read by each reader that can")
    parser.add_argument("--side", type=int, default=6000, help="pixels of the generated image")
    parser.add_argument("--windows", type=int, default=200, help="windows of a repetition")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repetitions")
    parser.add_argument("--view", nargs=2, metavar=("READER", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.view:
        measure_view(options.view[0], Path(options.view[1]))
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, tifffile "
        f"{tifffile.__version__}, zarr {zarr.__version__}; windows of 256 x 256 per second, best "
        f"of {options.repeats} interleaved repetitions of {options.windows}"
    )
    with tempfile.TemporaryDirectory() as folder:
        readers = generate(Path(folder), options.side)
        print_table("Generated", readers, options.windows, options.repeats)
    if options.slide:
        open_source(options.slide)
        readers = [(kind, "slide", options.slide) for kind in ("TiffSource", "SlideSource")]
        print_table(options.slide.name, readers, options.windows, options.repeats)


if __name__ == "__main__":
    main()
