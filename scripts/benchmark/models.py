"""A training step of each model, as a multiple of gated attention behind the same projection.

    OMP_NUM_THREADS=1 python scripts/benchmark/models.py
    OMP_NUM_THREADS=1 python scripts/benchmark/models.py clam_mb dsmil --instances 4000

A batch is 8 bags of log-normal size (sigma 1), D = 1,024, one after the other on a chain where a
model needs a graph; instances require no gradient. The step is forward and backward of the bags'
logits, of the penalty and of the further logits. Models and the yardstick take turns; of each the
least processor time of the repetitions counts.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from _common import least_times
from torch import nn

import milforge
from milforge.api.build import build_network
from milforge.data import Bag, BagBatch, collate_bags
from milforge.graph import build_adjacency

WIDTH, BAGS, SIGMA = 1024, 8, 1.0
YARDSTICK = "gated_abmil"
MODELS = (
    *("mean_pool", "simlp", "abmil", "additive_abmil", "varmil", "multihead_abmil"),
    *("clam_sb", "clam_mb", "dsmil", "dtfd", "acmil", "mhim", "transformer", "transmil"),
    *("ilra", "rrt", "wikg", "mambamil", "patch_gcn"),
)


def make_batch(instances: int) -> BagBatch:
    """Bags whose sizes sum to about so many."""
    mean = math.log(instances / BAGS) - SIGMA**2 / 2
    sizes = np.random.default_rng(0).lognormal(mean, SIGMA, BAGS)
    torch.manual_seed(0)
    bags = []
    for size in map(round, np.maximum(1, sizes * instances / sizes.sum())):
        places = torch.arange(size).float()[:, None].repeat(1, 2)
        adj = build_adjacency(places, method="radius", radius=1.5)
        bags.append(Bag(torch.randn(size, WIDTH), None, adj, places))
    return replace(collate_bags(bags), seeds=torch.arange(BAGS))


def make_step(model: str, batch: BagBatch) -> Callable[[], None]:
    """Forward and backward of a model behind the projection of 512."""
    options = [f"model={model}", "model/encoder=projection"]
    torch.manual_seed(0)
    network: nn.Module = build_network(milforge.compose("train", options), (WIDTH,), 2, 0)

    def step() -> None:
        network.zero_grad()
        output = network(batch)
        parts = [output.logits, *(each.logits for each in output.auxiliary)]
        parts += [each for each in output.details.values() if each.requires_grad]
        loss = sum(part.square().mean() for part in parts)
        (loss if output.penalty is None else loss + output.penalty).backward()

    return step


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--instances", type=int, default=2000, help="of a batch of 8 bags")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    batch = make_batch(arguments.instances)
    names = dict.fromkeys([YARDSTICK, *arguments.models])
    times = least_times({name: make_step(name, batch) for name in names}, arguments.repeats)
    least = times[YARDSTICK].processor
    print(f"{len(batch)} bags, {batch.num_instances} instances\n")
    print("| model | processor time, ms | times gated attention |\n| --- | --- | --- |")
    for name, each in times.items():
        print(f"| `{name}` | {each.processor:.0f} | {each.processor / least:.2f} |")


if __name__ == "__main__":
    main()
