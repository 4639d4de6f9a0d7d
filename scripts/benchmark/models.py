"""A training step of each model, as a multiple of gated attention behind the same projection.

    OMP_NUM_THREADS=1 python scripts/benchmark/models.py
    OMP_NUM_THREADS=1 python scripts/benchmark/models.py clam_mb dsmil --sizes 1000 10000 100000
    OMP_NUM_THREADS=1 python scripts/benchmark/models.py --sizes --ways
    OMP_NUM_THREADS=1 python scripts/benchmark/models.py --sizes --ways --peers FOLDER_OF_TORCHMIL

`mixed` is a batch of 8 bags of log-normal size (sigma 1); a number is one bag of that size. D =
1,024; instances lie one after the other on a chain where a model needs a graph, and require no
gradient. The step is forward and backward of the bags' logits, of the penalty and of the further
logits. Each measurement has a process of its own, forked from one that has loaded everything:
processor time, the least of the repetitions, and memory at the peak of a step above what the
process held before, the batch and PyTorch included. The first step, of which the memory is that,
warms up and is not timed.

With `--ways` gated attention over the packed batch is set beside one bag a step and a padded batch,
and with `--peers` beside models of torchmil, which pad.
"""

import argparse
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
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

Step = Callable[[], None]


def make_batch(instances: int, bags: int = BAGS) -> BagBatch:
    """Bags whose sizes sum to about so many."""
    mean = math.log(instances / bags) - SIGMA**2 / 2
    sizes = np.random.default_rng(0).lognormal(mean, SIGMA, bags)
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


def measure(make: Callable[[], Step], repeats: int) -> tuple[float, float]:
    """Milliseconds of the processor and MB of a step, in a process of its own."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def work() -> None:
        step = make()
        memory, least = peak_of(step)[1], math.inf
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


def tell(rows: Iterable[tuple[str, str, float, float, float]]) -> None:
    """Prints the rows as they come."""
    print("| batch | model | processor time, ms | times gated attention | MB |")
    print("| --- | --- | ---: | ---: | ---: |")
    for batch, model, time, least, memory in rows:
        print(
            f"| {batch} | {model} | {time:,.0f} | {time / least:.1f} | {memory:,.0f} |", flush=True
        )


def of_models(
    models: Iterable[str], instances: int, sizes: list[int], repeats: int
) -> Iterable[tuple[str, str, float, float, float]]:
    """All models on each batch."""
    kinds = [("mixed", instances, BAGS)] if instances else []
    for label, size, bags in [*kinds, *((f"{n:,}", n, 1) for n in sizes)]:
        batch, least = make_batch(size, bags), math.nan
        for model in dict.fromkeys([YARDSTICK, *models]):
            time, memory = measure(lambda m=model, b=batch: make_step(m, b), repeats)
            least = time if model == YARDSTICK else least
            yield label, f"`{model}`", time, least, memory


def of_ways(
    batch: BagBatch, repeats: int, folder: str | None
) -> Iterable[tuple[str, str, float, float, float]]:
    """The ways of a batch of bags of several sizes."""
    found = peers(folder) if folder else {}
    least, packed = measure(lambda: make_step(YARDSTICK, batch), repeats)
    yield "mixed", f"`{YARDSTICK}`, packed", least, least, packed
    ways: dict[str, Callable[[], Step]] = {
        f"`{YARDSTICK}`, one bag a step": lambda: one_by_one(YARDSTICK, batch),
        f"`{YARDSTICK}`, padded": lambda: padded_step(_Padded(), batch),
    }
    for name, build in found.items():
        if name != YARDSTICK:
            ways[f"`{name}`, packed"] = lambda n=name: make_step(n, batch)
        ways[f"`{name}` of torchmil, padded"] = lambda b=build: padded_step(b(), batch)
    for label, make in ways.items():
        time, memory = measure(make, repeats)
        yield "mixed", label, time, least, memory


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--instances", type=int, default=2000, help="of the batch of 8; 0: none")
    parser.add_argument("--sizes", nargs="*", type=int, default=[1000], help="of single bags")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", action="store_true", help="packed, padded, one by one instead")
    parser.add_argument("--peers", help="folder into which torchmil is installed")
    arguments = parser.parse_args()
    if arguments.ways:
        tell(of_ways(make_batch(arguments.instances), arguments.repeats, arguments.peers))
    else:
        rows = of_models(arguments.models, arguments.instances, arguments.sizes, arguments.repeats)
        tell(rows)


if __name__ == "__main__":
    main()
