"""Does `compile=true` pay? Steps of whole networks, compiled and not, on bags of many sizes.

    OMP_NUM_THREADS=1 python scripts/benchmark/compile.py gated_abmil dsmil

Forward and backward of 12 single bags of 1,500 to 6,000 x 512; the two take turns. Given are the
least processor seconds of three rounds, those of the first compiled round, and how many graphs and
breaks between them the compiler made: later ones would be one more per size of a bag.
"""

import argparse
import copy
from dataclasses import replace
from time import process_time

import torch
from torch import nn
from torch._dynamo.utils import counters

import milforge
from milforge.api.build import build_network
from milforge.data import Bag, BagBatch, collate_bags

WIDTH, BAGS, SMALLEST, LARGEST = 512, 12, 1500, 6000


def make_batches() -> list[BagBatch]:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(SMALLEST, LARGEST, (BAGS,), generator=generator).tolist()
    batches = [collate_bags([Bag(torch.randn(n, WIDTH), 0, bag_id=str(n))]) for n in sizes]
    return [replace(each, seeds=torch.arange(1)) for each in batches]


def steps(network: nn.Module, batches: list[BagBatch]) -> float:
    """Processor seconds of forward and backward of all batches."""
    start = process_time()
    for batch in batches:
        network.zero_grad()
        output = network(batch)
        loss = output.logits.sum() + sum(each.logits.sum() for each in output.auxiliary)
        (loss if output.penalty is None else loss + output.penalty).backward()
    return process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    batches = make_batches()
    print("| model | as it is, s | compiled, s | first round, s | graphs | later | breaks |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for model in options.models:
        torch.manual_seed(0)
        config = milforge.compose("train", [f"model={model}"])
        network = build_network(config, (WIDTH,), 1, 0).train()
        fast = copy.deepcopy(network)
        torch._dynamo.reset()
        counters.clear()
        fast.compile(dynamic=True)
        first, graphs = steps(fast, batches), counters["stats"]["unique_graphs"]
        rounds = [(steps(network, batches), steps(fast, batches)) for _ in range(options.repeats)]
        plain, compiled = map(min, zip(*rounds, strict=True))
        later = counters["stats"]["unique_graphs"] - graphs
        breaks = sum(counters["graph_break"].values())
        times = f"{plain:.2f} | {compiled:.2f} | {first:.1f}"
        print(f"| `{model}` | {times} | {graphs} | {later} | {breaks} |")


if __name__ == "__main__":
    main()
