"""A training step of each model, as a multiple of gated attention behind the same projection.

    OMP_NUM_THREADS=1 python scripts/benchmark/models.py --instances 2000 --sizes
    OMP_NUM_THREADS=1 python scripts/benchmark/models.py --plot docs/model_scaling.png
    OMP_NUM_THREADS=1 python scripts/benchmark/models.py clam_mb dsmil --sizes 1000 10000 100000
    OMP_NUM_THREADS=1 python scripts/benchmark/models.py --ways --peers FOLDER_OF_TORCHMIL

`mixed` is a batch of 8 bags of log-normal size (sigma 1); a number is one bag of that size, where
the cost of a model allows it, else of the largest size that it does (`LARGEST`). D = 1,024;
instances lie one after the other on a chain where a model needs a graph, and require no gradient.
The step is forward and backward of the bags' logits, of the penalty and of the further logits. Each
measurement has a process of its own, forked from one that has loaded everything: processor time,
the least of the repetitions, and memory at the peak of a step above what the process held before,
the batch and PyTorch included. The first step, of which the memory is that, warms up and is not
timed; bags of 10,000 and more have that step alone, which is then timed. With `--rows FILE` rows
are kept in a table, and only what is not in it is measured.

`--ways` sets packed batches beside one bag a step and beside padded ones, which are as long as
their largest bag and have a mask: ours, and with `--peers` those of torchmil. Ways take turns in
each of several draws of the sizes. `products` are the matrix products of the instances that no
implementation avoids.
"""

import argparse
import csv
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from _common import peak_of
from torch import nn

import milforge
from milforge.api.build import build_network
from milforge.data import Bag, BagBatch, collate_bags
from milforge.graph import build_adjacency
from milforge.nn import AttentionPool

WIDTH, PROJECTED, BAGS, SIGMA = 1024, 512, 8, 1.0
YARDSTICK = "gated_abmil"
MODELS = (
    *("mean_pool", "simlp", "abmil", "additive_abmil", "varmil", "multihead_abmil"),
    *("clam_sb", "clam_mb", "dsmil", "dtfd", "acmil", "mhim", "transformer", "transmil"),
    *("ilra", "rrt", "wikg", "mambamil", "patch_gcn"),
)
LARGEST = {"transformer": 10_000, "mambamil": 10_000, "wikg": 50_000, "transmil": 64_000}
ONE_STEP = 10_000  # instances from which on the first step is timed
# Widths into and out of the products of all instances, behind the projection.
PRODUCTS = {
    "gated_abmil": [(512, 256)],
    "clam_sb": [(512, 512)],
    "dsmil": [(512, 128), (128, 128)],
    "dtfd": [(512, 256)],
}

Step = Callable[[], None]


def make_batch(instances: int, bags: int = BAGS, seed: int = 0) -> BagBatch:
    """Bags whose sizes sum to about so many."""
    mean = math.log(instances / bags) - SIGMA**2 / 2
    sizes = np.random.default_rng(seed).lognormal(mean, SIGMA, bags)
    torch.manual_seed(0)
    made = []
    for size in map(round, np.maximum(1, sizes * instances / sizes.sum())):
        places = torch.arange(size).float()[:, None].repeat(1, 2)
        adj = build_adjacency(places, method="radius", radius=1.5)
        made.append(Bag(torch.randn(size, WIDTH), None, adj, places))
    return replace(collate_bags(made), seeds=torch.arange(bags))


def step_of(network: nn.Module, batch: BagBatch) -> Step:
    """Forward and backward of all that is added to a loss."""

    def step() -> None:
        network.zero_grad()
        output = network(batch)
        parts = [output.logits, *(each.logits for each in output.auxiliary)]
        parts += [each for each in output.details.values() if each.requires_grad]
        loss = sum(part.square().mean() for part in parts)
        (loss if output.penalty is None else loss + output.penalty).backward()

    return step


def make_step(model: str, batch: BagBatch) -> Step:
    """A step of a model behind the projection of 512."""
    options = [f"model={model}", "model/encoder=projection"]
    torch.manual_seed(0)
    return step_of(build_network(milforge.compose("train", options), (WIDTH,), 2, 0), batch)


def one_by_one(model: str, batch: BagBatch) -> Step:
    """The same of one bag after the other."""
    bounds = zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)
    assert isinstance(batch.x, torch.Tensor)
    bags = [collate_bags([Bag(batch.x[i:j])]) for i, j in bounds]
    steps = [make_step(model, replace(each, seeds=torch.zeros(1))) for each in bags]
    return lambda: [step() for step in steps].clear()


class _Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(WIDTH, PROJECTED), nn.ReLU())
        self.pool = AttentionPool(PROJECTED, gated=True)
        self.head = nn.Linear(PROJECTED, 2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.pool(self.projection(x), mask))
        return logits


def padded_step(network: nn.Module, batch: BagBatch) -> Step:
    """A step of a network that takes padded bags and a mask."""
    x, mask, _ = replace(batch, adj=None).padded()

    def step() -> None:
        network.zero_grad()
        network(x, mask).square().mean().backward()

    return step


def peers(folder: str) -> dict[str, Callable[[], nn.Module]]:
    """Models of torchmil behind the same projection, by the names of ours."""
    sys.path.insert(0, folder)
    from torchmil import models

    def projection() -> dict[str, Any]:
        return {
            "in_shape": (WIDTH,),
            "feat_ext": nn.Sequential(nn.Linear(WIDTH, PROJECTED), nn.ReLU()),
        }

    return {
        "gated_abmil": lambda: models.ABMIL(gated=True, **projection()),
        "clam_sb": lambda: models.CLAM_SB(gated=True, att_dim=256, **projection()),
        "dsmil": lambda: models.DSMIL(nonlinear_q=True, **projection()),
        "dtfd": lambda: models.DTFDMIL(n_groups=5, distill_mode="afs", **projection()),
    }


def products_step(model: str, batch: BagBatch) -> Step:
    """The products of a step; the first one needs no gradient of its input."""
    x = batch.x
    assert isinstance(x, torch.Tensor)
    first = torch.randn(PROJECTED, WIDTH)
    others = [torch.randn(out, into) for into, out in PRODUCTS[model]]

    def step() -> None:
        rows = hidden = x @ first.t()
        for weight in others:
            grad = rows @ weight.t()
            _ = grad.t() @ rows, grad @ weight
            rows = grad
        _ = hidden.t() @ x

    return step


def measure(make: Callable[[], Step], repeats: int) -> tuple[float, float]:
    """Milliseconds of the processor and MB of a step, in a process of its own."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def work() -> None:
        step = make()
        before = process_time()
        memory = peak_of(step)[1]
        least = math.inf if repeats else 1e3 * (process_time() - before)
        for _ in range(repeats):
            before = process_time()
            step()
            least = min(least, 1e3 * (process_time() - before))
        send.send((least, memory))

    process = context.Process(target=work)
    process.start()
    send.close()
    try:
        found: tuple[float, float] = receive.recv()
    except EOFError:
        found = (math.nan, math.nan)  # such as killed, because memory ran out
    process.join()
    return found


Row = tuple[str, str, float, float]  # batch, model, ms, MB


class Kept:
    """Measurements, and those that a file has from an earlier call."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[tuple[str, str], Row] = {}
        if path and path.exists():
            for batch, model, time, memory in csv.reader(path.read_text().splitlines()):
                self.rows[batch, model] = batch, model, float(time), float(memory)

    def measure(self, batch: str, model: str, make: Callable[[], Step], repeats: int) -> Row:
        """The row of a batch and a model or way."""
        if (batch, model) not in self.rows:
            self.rows[batch, model] = row = batch, model, *measure(make, repeats)
            print(*row, file=sys.stderr, flush=True)
            if self.path:
                with self.path.open("a", newline="") as file:
                    csv.writer(file).writerow(row)
        return self.rows[batch, model]


def of_models(
    models: Iterable[str], instances: int, sizes: list[int], repeats: int, kept: Kept
) -> list[Row]:
    """All models on each batch."""
    wanted: dict[int, list[str]] = {}
    for size in sizes:
        for model in models:
            wanted.setdefault(min(size, LARGEST.get(model, size)), []).append(model)
    kinds = [("mixed", instances, BAGS, list(models))] if instances else []
    kinds += [(str(n), n, 1, names) for n, names in sorted(wanted.items())]
    rows = []
    for label, size, bags, names in kinds:
        batch = None
        steps = 0 if size >= ONE_STEP else repeats
        for model in dict.fromkeys([YARDSTICK, *names]):
            if batch is None and (label, model) not in kept.rows:
                batch = make_batch(size, bags)
            rows.append(kept.measure(label, model, partial(make_step, model, batch), steps))
    return rows


def tell(rows: list[Row]) -> None:
    """Prints a table for each batch."""
    print("| batch | model | processor time, ms | times gated attention | MB |")
    print("| --- | --- | ---: | ---: | ---: |")
    least = {batch: time for batch, model, time, _ in rows if model == YARDSTICK}
    for batch, model, time, memory in rows:
        shown = f"{int(batch):,}" if batch.isdigit() else batch
        cells = f"{time:,.0f} | {time / least[batch]:.1f} | {memory:,.0f}"
        print(f"| {shown} | `{model}` | {cells} |")


def draw(rows: list[Row], path: str) -> None:
    """Time and memory against the size of a bag."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 6), layout="constrained")
    models = dict.fromkeys(model for _, model, _, _ in rows)
    colours = plt.get_cmap("tab10").colors
    for number, name in enumerate(models):
        mine = [(int(b), t / 1e3, m) for b, model, t, m in rows if model == name and b.isdigit()]
        for axis, values in zip(axes, zip(*[each[1:] for each in mine], strict=True), strict=True):
            axis.loglog(
                [each[0] for each in mine],
                values,
                label=name,
                color=colours[number % 10],
                linestyle=("-", "--")[number // 10],
                marker=("o", "s")[number // 10],
                markersize=4,
            )
    for axis, label in zip(
        axes, ("processor time of a step, s", "peak of a step, MB"), strict=True
    ):
        axis.set(xlabel="instances of the bag", ylabel=label)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=110)


def of_ways(instances: int, draws: int, repeats: int, folder: str | None, kept: Kept) -> None:
    """Prints how many times as long other ways take as packed batches, and what products take."""
    found = peers(folder) if folder else {}
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    rows = []
    for seed in range(draws):
        batch = make_batch(instances, seed=seed)
        sizes = batch.ptr.diff()
        rows.append((len(sizes) * sizes.max() / sizes.sum()).item())
        for name in PRODUCTS if found else [YARDSTICK]:
            ways: dict[str, Callable[[], Step]] = {
                "packed": partial(make_step, name, batch),
                "products": partial(products_step, name, batch),
            }
            if name == YARDSTICK:
                ways["one bag a step"] = partial(one_by_one, name, batch)
                ways["padded"] = lambda b=batch: padded_step(_Padded(), b)
            if found:
                ways["torchmil, padded"] = lambda n=name, b=batch: padded_step(found[n](), b)
            for way, make in ways.items():
                row = kept.measure(f"draw {seed}, {way}", name, make, repeats)
                taken.setdefault((name, way), []).append(row[2:])
    print(f"rows of padded batches / instances: {_range(rows)}\n")
    print("| `model` | way | ms | MB | time / packed |\n| --- | --- | ---: | ---: | --- |")
    for (name, way), each in taken.items():
        time, memory = np.median(each, axis=0)
        ratio = [a[0] / b[0] for a, b in zip(each, taken[name, "packed"], strict=True)]
        of_memory = "" if way == "products" else f"{memory:.0f}"
        shown = "" if way == "packed" else _range(ratio)
        print(f"| `{name}` | {way} | {time:.0f} | {of_memory} | {shown} |")


def _range(values: list[float]) -> str:
    return f"{np.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--instances", type=int, default=0, help="of a batch of 8; 0: none")
    parser.add_argument("--sizes", nargs="*", type=int, default=[1000, 10000, 100000])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rows", type=Path, help="file that keeps what is measured")
    parser.add_argument("--plot", help="PNG to draw")
    parser.add_argument("--ways", action="store_true", help="packed, padded, one by one instead")
    parser.add_argument("--draws", type=int, default=9, help="of the sizes, with --ways")
    parser.add_argument("--peers", help="folder into which torchmil is installed")
    arguments = parser.parse_args()
    kept = Kept(arguments.rows)
    if arguments.ways:
        instances = arguments.instances or 2000
        of_ways(instances, arguments.draws, arguments.repeats, arguments.peers, kept)
        return
    rows = of_models(
        arguments.models, arguments.instances, arguments.sizes, arguments.repeats, kept
    )
    tell(rows)
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
