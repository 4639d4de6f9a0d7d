"""A training step of attention sampling against the size of the images, on disk and in memory.

    pip install -e ".[slides]" -c constraints.txt
    OMP_NUM_THREADS=1 python scripts/benchmark/sampling_step.py --plot docs/sampling_step.png

The network is that of `experiment=megapixel_mnist`; a step is its forward and backward of 16 images
with 10 patches of 50 x 50 each. The low-resolution views, 180 x 180, are at hand. On disk, an image
is a tiled TIFF with its pyramid, Deflate, in a temporary folder, read through `TiffSource`; in
memory, the batch is one dense uint8 tensor. Both hold the same pixels, and their losses must agree,
or there is no table. All tiles of an image are alike, a canvas of scikit-learn's digits and
strokes, so that the files are written quickly and a patch anywhere costs a tile that holds
something. The files have just been written: they are read from the memory of the operating system.

A time is the least of the repetitions, on the wall clock, disk and memory taking turns; each step
draws other patches. "View" is reading the view of an image from its pyramid, "patches" reading or
cutting the patches of a batch and nothing else. Memory is what opening or making the images and
three steps add, at the peak, to what the process held with the libraries, the network and the views
in place; each in a process of its own, the median of three such (Linux only). The last table is a
step of `megapixel_mnist` as it is trained, on canvases held as their digits (here scikit-learn's,
which cost what MNIST's do); "batch" is making the images and their views.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count, repeat
from pathlib import Path

import numpy as np
import tifffile
import torch
from _common import least_times, peak_of
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from milforge.data import TiffSource, collate_images, low_resolution, megapixel
from milforge.models import SamplingNetwork
from milforge.nn import AttentionCNN, PatchCNN
from milforge.plots.style import BLUE, PALE, VERMILION, new_figure, tidy, top_legend
from milforge.sampling import ImageSource, extract_patches, read_patches

IMAGES, LOW, TILE, CLASSES = 16, 180, 256, 10
PATCHES, PATCH = 10, 50
SIZES = (500, 1_000, 2_000, 5_000, 10_000, 20_000)
BATCHES = (128, 32)  # of the paper, and one that is usual elsewhere
PROCESSES = 3  # in which memory is measured: what the allocator keeps varies
TOLERANCE = 1e-6  # of the loss

Images = Tensor | Sequence[ImageSource]


def tiles() -> NDArray[np.uint8]:
    """A tile for each image, `(IMAGES, TILE, TILE)`: digits and strokes on black."""
    drawn = megapixel(train=IMAGES, val=1, test=1, size=TILE, low_size=1, noise=3).train
    corner = torch.zeros(1, 2, dtype=torch.int64)
    return np.stack([drawn[i].high.read(corner, (TILE, TILE))[0, 0].numpy() for i in range(IMAGES)])


def write(path: Path, tile: NDArray[np.uint8], side: int) -> None:
    """An image of equal tiles as a pyramid, down to the last level that the view can be read from.

    Never held as a whole: as the sides of a tile are a power of two, a level is equal tiles too.
    """
    halvings = max(0, math.floor(math.log2(side / LOW)))
    with tifffile.TiffWriter(path) as tiff:
        for level in range(halvings + 1):
            scale = 2**level
            small = tile.reshape(TILE // scale, scale, -1, scale).mean((1, 3)).round()
            stored = zlib.compress(np.tile(small, (scale, scale)).astype(np.uint8).tobytes())
            level_side = math.ceil(side / scale)
            tiff.write(
                repeat(stored, math.ceil(level_side / TILE) ** 2),
                shape=(level_side, level_side),
                dtype="uint8",
                tile=(TILE, TILE),
                compression="deflate",
                photometric="minisblack",
                **({"subifds": halvings} if level == 0 else {"subfiletype": 1}),
            )


def generate(folder: Path, side: int) -> float:
    """Writes the images, their tiles and views; returns the MB of the images."""
    drawn = tiles()
    np.save(folder / "tiles.npy", drawn)
    for i, tile in enumerate(drawn):
        write(folder / f"{i}.tif", tile, side)
    views = [low_resolution(source, size=(LOW, LOW)) for source in on_disk(folder)]
    np.save(folder / "views.npy", torch.stack(views).numpy())
    return sum(path.stat().st_size for path in folder.glob("*.tif")) / 1e6


def on_disk(folder: Path) -> list[TiffSource]:
    """The images, opened."""
    return [TiffSource(folder / f"{i}.tif") for i in range(IMAGES)]


def in_memory(folder: Path, side: int) -> Tensor:
    """The same images, `(IMAGES, 1, side, side)` uint8."""
    batch = torch.empty(IMAGES, 1, side, side, dtype=torch.uint8)
    for image, tile in zip(batch[:, 0], np.load(folder / "tiles.npy"), strict=True):
        rows = torch.from_numpy(np.tile(tile, math.ceil(side / TILE))[:, :side])
        for top in range(0, side, TILE):
            image[top : top + TILE] = rows[: side - top]
    return batch


def images_in(where: str, folder: Path, side: int) -> Images:
    """The images on disk or in memory."""
    return on_disk(folder) if where == "disk" else in_memory(folder, side)


def make_network(patches: int = PATCHES) -> SamplingNetwork:
    """As `experiment=megapixel_mnist` has it."""
    torch.manual_seed(0)
    return SamplingNetwork(
        (1,),
        CLASSES,
        attention=AttentionCNN,
        feature=PatchCNN,
        patch_size=(PATCH, PATCH),
        n_patches=patches,
        entropy=1e-4,
    ).train()


def make_step(network: SamplingNetwork, views: Tensor, images: Images) -> Callable[[], float]:
    """Forward and backward of a batch, with other patches each time; gives the loss."""
    sampling, number, size = network.sampling, count(), len(views)
    y = torch.arange(size) % CLASSES

    def step() -> float:
        first = size * next(number)
        z, attention, _ = sampling(views, images, seeds=range(first, first + size))
        loss = F.cross_entropy(network.head(z), y) + sampling.penalty(attention)
        network.zero_grad()
        loss.backward()
        return loss.item()

    return step


def read_views(folder: Path) -> Tensor:
    """The views, `(IMAGES, 1, LOW, LOW)` uint8."""
    return torch.from_numpy(np.load(folder / "views.npy"))


def make_cut(images: Images, side: int) -> Callable[[], Tensor]:
    """Nothing but the patches of a batch, at other places each time."""
    generator = torch.Generator().manual_seed(0)

    def cut() -> Tensor:
        places = torch.randint(side - PATCH + 1, (IMAGES, PATCHES, 2), generator=generator)
        extract = extract_patches if isinstance(images, Tensor) else read_patches
        return extract(images, places, (PATCH, PATCH))

    return cut


def measure_time(folder: Path, side: int, places: Sequence[str], repeats: int) -> Iterator[float]:
    """Milliseconds of a view; of the patches alone and of a step, in each of these places."""
    sources, views, network = on_disk(folder), read_views(folder), make_network()
    images = {place: images_in(place, folder, side) for place in places}
    for make in (lambda each: make_step(network, views, each), lambda each: make_cut(each, side)):
        first = [torch.as_tensor(make(each)()).float() for each in images.values()]
        if not all(torch.allclose(each, first[0], TOLERANCE, 0) for each in first):
            sys.exit("error: the images on disk and in memory give different losses or patches")
    view = {"view": lambda: [low_resolution(source, size=(LOW, LOW)) for source in sources]}
    cuts = {place: make_cut(each, side) for place, each in images.items()}
    steps = {place: make_step(network, views, each) for place, each in images.items()}
    yield least_times(view, repeats)["view"].wall / IMAGES
    for contestants in (cuts, steps):
        yield from (each.wall for each in least_times(contestants, repeats).values())


def measure_memory(folder: Path, side: int, where: str) -> float:
    """MB that the images and three steps add. For a process of its own."""
    views, network = read_views(folder), make_network()
    # Loads the libraries.
    make_step(make_network(2), views[:1], on_disk(folder)[:1])()
    network.zero_grad()

    def run() -> None:
        step = make_step(network, views, images_in(where, folder, side))
        for _ in range(3):
            step()

    return peak_of(run)[1]


def print_sizes(options: argparse.Namespace) -> None:
    """Time and memory against the size of the images."""
    print(
        "| pixels a side | files, MB | view, ms an image | patches: disk, ms | memory, ms | "
        "step: disk, ms | memory, ms | peak: disk, MB | memory, MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    found: dict[str, dict[int, tuple[float, float]]] = {"on disk": {}, "in memory": {}}
    for side in options.sizes:
        fits = IMAGES * side**2 <= 1e9 * options.memory_gb
        places = ["disk", "memory"] if fits else ["disk"]
        with tempfile.TemporaryDirectory() as folder:
            stored = generate(Path(folder), side)
            view, *times = child(options, "time", side, folder, " ".join(places))
            peaks = [
                statistics.median(
                    child(options, "peak", side, folder, place)[0] for _ in range(PROCESSES)
                )
                for place in places
            ]
        cuts, steps = times[: len(places)], times[len(places) :]
        for line, step, peak in zip(found.values(), steps, peaks, strict=False):
            line[side] = (step, peak)
        cells = [f"{side:,}", f"{stored:.1f}", f"{view:.1f}"]
        for values, form in ((cuts, ".1f"), (steps, ".0f"), (peaks, ",.0f")):
            cells += [format(each, form) for each in values] + ["-"] * (2 - len(values))
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.plot is not None:
        draw(found, options.plot)


def print_paper(options: argparse.Namespace) -> None:
    """A step of `megapixel_mnist`."""
    print("\nA step of `megapixel_mnist`, images of 1,500 x 1,500, 10 patches of 50 x 50\n")
    print("| images | batch, ms | step, ms | MB |")
    print("| --- | --- | --- | --- |")
    for size in options.batches:
        made, step, peak = child(options, "paper", size, ".", "canvas")
        print(f"| {size} | {made:.0f} | {step:,.0f} | {peak:,.0f} |", flush=True)


def measure_paper(size: int, repeats: int) -> Iterator[float]:
    """Milliseconds of making a batch and of a step, and MB of both. For a process of its own."""
    network, images = make_network(), megapixel(train=size).train

    def make_and_step(number: int, network: SamplingNetwork) -> None:
        batch = collate_images([images[i] for i in range(number)])
        make_step(network, batch.x_low, batch.x_high)()

    make_and_step(1, make_network(2))  # loads the libraries
    _, peak = peak_of(lambda: make_and_step(size, network))
    batch = collate_images([images[i] for i in range(size)])
    contestants = {
        "batch": lambda: collate_images([images[i] for i in range(size)]),
        "step": make_step(network, batch.x_low, batch.x_high),
    }
    yield from (each.wall for each in least_times(contestants, repeats).values())
    yield peak


def child(options: argparse.Namespace, *case: object) -> list[float]:
    """What a measurement in a process of its own prints."""
    command = [sys.executable, __file__, "--threads", str(options.threads)]
    command += ["--repeats", str(options.repeats), "--case", *map(str, case)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [float(each) for each in done.stdout.split()]


def run_case(kind: str, side: str, folder: str, where: str, repeats: int) -> Iterator[float]:
    """The measurement of such a process."""
    if kind == "time":
        yield from measure_time(Path(folder), int(side), where.split(), repeats)
    elif kind == "peak":
        yield measure_memory(Path(folder), int(side), where)
    else:
        yield from measure_paper(int(side), repeats)


def draw(found: dict[str, dict[int, tuple[float, float]]], path: Path) -> None:
    """Time and memory against the size."""
    figure = new_figure(8, 3.2)
    axes = figure.subplots(1, 2)
    lines = []
    for (name, points), colour, marker in zip(
        found.items(), (BLUE, VERMILION), ("o", "s"), strict=True
    ):
        for ax, values in zip(axes, zip(*points.values(), strict=True), strict=False):
            (line,) = ax.plot(
                list(points),
                values,
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.5,
                label=name,
            )
        if points:
            lines.append(line)
    sizes = list(found["on disk"])
    for ax, (title, unit) in zip(
        axes, (("time of a step", "ms"), ("peak memory", "MB")), strict=True
    ):
        tidy(ax, title=title, xlabel="pixels a side of each of 16 images", ylabel=unit)
        if unit == "MB":
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.grid(color=PALE, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes[0].set_ylim(0, 1.1 * axes[0].get_ylim()[1])
    axes[1].set_ylim(bottom=100)  # or the noise of a flat line would fill the panel
    top_legend(figure, lines)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="PIXELS")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES, metavar="IMAGES")
    parser.add_argument(
        "--memory-gb", type=float, default=4.0, help="larger batches are not made in memory"
    )
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--plot", type=Path, help="a file for time and memory against the size")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case:
        kind, side, folder, where = options.case
        print(*run_case(kind, side, folder, where, options.repeats))
        return
    print(
        f"torch {torch.__version__}, tifffile {tifffile.__version__}, {options.threads} threads, "
        f"{os.cpu_count()} cores; {IMAGES} images, least of {options.repeats} interleaved "
        "repetitions\n"
    )
    print_sizes(options)
    print_paper(options)


if __name__ == "__main__":
    main()
