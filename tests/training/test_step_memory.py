from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from allocations import most_allocated
from every_model import WIDTH, make_network
from milforge.data import Bag, collate_bags
from milforge.data.loading.samplers import cut_batches
from milforge.graph import build_adjacency
from milforge.models import BagOutput
from milforge.nn import Standardise
from milforge.training.precision import single_batch
from milforge.training.step_memory import largest_batch, step_memory


def make_batch(sizes):
    """Bags of tiles in a square, float16."""
    bags = []
    for number, size in enumerate(sizes):
        side = int(np.ceil(np.sqrt(size)))
        coords = torch.stack([torch.arange(size) % side, torch.arange(size) // side], 1).float()
        adj = build_adjacency(coords, method="grid")
        bags.append(Bag(torch.randn(size, WIDTH).half(), None, adj, coords, bag_id=str(number)))
    return replace(collate_bags(bags), seeds=torch.arange(len(sizes)))


def measured(network, sizes, standardise=None):
    """Most bytes that a step allocates, of a batch that is there already."""
    batch = make_batch(sizes)
    network.train().zero_grad()

    def step():
        output = network(single_batch(batch, standardise))
        loss = output.logits.square().sum()
        for each in output.auxiliary:
            loss = loss + each.logits.square().sum()
        (loss if output.penalty is None else loss + output.penalty).backward()

    return most_allocated(step)


@pytest.mark.parametrize("model", ["gated_abmil", "sm_abmil", "clam_sb", "dsmil", "mhim"])
def test_a_small_batch_takes_what_the_allocator_gives_out(model):
    network, sizes = make_network(model).float(), [1500, 300, 100]
    standardise = Standardise(torch.zeros(WIDTH), torch.ones(WIDTH))
    forecast = step_memory(network, make_batch, sizes, standardise=standardise)
    assert forecast.peak == pytest.approx(measured(network, sizes, standardise), rel=0.02)


class Squared(nn.Module):
    """Whose memory grows with the square of the instances of each bag."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, batch):
        bags = batch.x.split(batch.ptr.diff().tolist())
        return BagOutput(
            torch.stack([(self.weight * (x @ x.T)).mean().exp() for x in bags])[:, None]
        )


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("gated_abmil", [7000]),
        ("sm_abmil", [3000, 2000, 1000, 50]),
        (Squared(), [7000]),
        (Squared(), [3000, 2000, 1000, 50]),
    ],
)
def test_a_large_batch_is_extrapolated(model, sizes):
    network = make_network(model).float() if isinstance(model, str) else model
    tried = []

    def make(sizes):
        tried.append(sum(sizes))
        return make_batch(sizes)

    forecast = step_memory(network, make, sizes, most=2000)
    assert max(tried) <= 2000 + len(sizes)
    there = step_memory(network, make_batch, sizes, most=sum(sizes))
    assert forecast.peak == pytest.approx(there.peak, rel=0.05)
    assert forecast.batch == pytest.approx(there.batch, rel=0.05)


class Known(nn.Module):
    """A network of which can be said what it takes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 32), nn.Linear(32, 1)

    def forward(self, batch):
        return BagOutput(self.second(torch.tanh(self.first(batch.x))).sum(0)[None])


def test_what_is_counted():
    network = Known()
    optimizer = torch.optim.Adam(network.parameters())
    forecast = step_memory(network, make_batch, [1000], optimizer=optimizer)
    table = 1000 * 32 * 4
    # Single precision of the batch, the activations, and in backward two tables of gradients.
    bytes_known = 1000 * WIDTH * 4 + 3 * table
    assert forecast.peak == pytest.approx(bytes_known, rel=0.05)
    weights = sum(each.nbytes for each in network.parameters())
    steps = 4 * len(list(network.parameters()))
    assert forecast.weights == 3 * weights + steps
    batch = make_batch([1000])
    graph = batch.adj.crow_indices().nbytes + batch.adj.col_indices().nbytes
    others = batch.ptr.nbytes + batch.coords.nbytes + graph + batch.adj.values().nbytes + 8
    assert forecast.batch == batch.x.nbytes + others
    assert forecast.total == forecast.batch + forecast.peak + forecast.weights


def test_half_precision_takes_less():
    network = make_network("gated_abmil").float()
    single, half = (step_memory(network, make_batch, [2000], half=half) for half in (False, True))
    assert half.peak < 0.8 * single.peak


@pytest.mark.parametrize(("batch_size", "most"), [(1, None), (4, None), (4, 300), (8, 120)])
def test_no_batch_is_larger(batch_size, most):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 200, 40).tolist()
    largest = largest_batch(sizes, batch_size, most)
    found = [
        sum(sizes[bag] for bag in batch)
        for _ in range(100)
        for batch in cut_batches(rng.permutation(40).tolist(), sizes, batch_size, most)
    ]
    assert 0.8 * sum(largest) <= max(found) <= sum(largest)
    assert len(largest) <= batch_size
