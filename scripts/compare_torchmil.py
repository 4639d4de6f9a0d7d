"""Logits of models that torchmil has too, at equal weights.

    pip install --target FOLDER --no-deps torchmil tensordict pyvers orjson cloudpickle einops
    python scripts/compare_torchmil.py FOLDER

`alone` is the largest difference of a logit of 8 bags, in units of the standard deviation of the
logits, where torchmil is given one bag at a time; `padded` where it is given all bags in a padded
batch with its mask. Each over 20 networks with random weights, in float64. A difference in padded
batches alone is torchmil's: its padding leaks.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from milforge.data import Bag, BagBatch, collate_bags
from milforge.graph import build_adjacency
from milforge.models import CLAM, DSMIL, BagNetwork
from milforge.nn import AttentionPool, IdentityEncoder, SmAttentionPool

WIDTH, SIZES, NETWORKS = 16, (40, 2, 90, 3, 60, 33, 5, 75), 20
# Builds ours and torchmil's, and copies the weights of torchmil's.
Pair = tuple[nn.Module, nn.Module]


def copy(mine: nn.Module, its: nn.Module) -> None:
    """Parameters of two modules that have the same ones in the same order."""
    with torch.no_grad():
        for own, other in zip(mine.parameters(), its.parameters(), strict=True):
            own.copy_(other)


def abmil(models: Any, gated: bool) -> Pair:
    pool = partial(AttentionPool, att_dim=128, gated=gated)
    mine = BagNetwork((WIDTH,), 1, encoder=IdentityEncoder, pool=pool)
    its = models.ABMIL((WIDTH,), gated=gated)
    mine.pool.load_state_dict(its.pool.state_dict())
    copy(mine.head, its.classifier)
    return mine, its


def sm_abmil(models: Any) -> Pair:
    mine = BagNetwork(
        (WIDTH,), 1, encoder=IdentityEncoder, pool=partial(SmAttentionPool, act="gelu")
    )
    its = models.SmABMIL((WIDTH,), att_act="gelu")
    mine.pool.load_state_dict(its.pool.state_dict())
    copy(mine.head, its.last_layer)
    return mine, its


def clam_sb(models: Any) -> Pair:
    mine = CLAM((WIDTH,), 1, encoder=IdentityEncoder)
    its = models.CLAM_SB((WIDTH,), att_dim=256, gated=True)
    copy(mine.attention.fc1, its.pool.fc1)
    copy(mine.attention.fc_gated, its.pool.fc_gated)
    copy(mine.attention.fc2, its.pool.fc2)
    copy(mine.head, its.classifier)
    return mine, its


def dsmil(models: Any) -> Pair:
    mine = DSMIL((WIDTH,), 1, encoder=IdentityEncoder)
    its = models.DSMIL((WIDTH,), nonlinear_q=True)
    copy(mine.query, its.q_nn)
    copy(mine.instance_head, its.inst_classifier)
    copy(mine.head, its.bag_classifier)
    return mine, its


PAIRS: dict[str, Callable[[Any], Pair]] = {
    "abmil": partial(abmil, gated=False),
    "gated_abmil": partial(abmil, gated=True),
    "sm_abmil": sm_abmil,
    "clam_sb": clam_sb,
    "dsmil": dsmil,
}


def make_batch() -> tuple[BagBatch, list[Bag]]:
    generator = torch.Generator().manual_seed(0)
    bags = []
    for size in SIZES:
        places = torch.rand(size, 2, generator=generator) * size**0.5
        adj = build_adjacency(places, method="radius", radius=1.5).to(torch.float64)
        x = torch.randn(size, WIDTH, generator=generator, dtype=torch.float64)
        bags.append(Bag(x, None, adj, places))
    return collate_bags(bags), bags


def differences(build: Callable[[Any], Pair], models: Any) -> tuple[float, float]:
    batch, bags = make_batch()
    x, mask, adj = batch.padded()
    alone, padded = 0.0, 0.0
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        mine, its = (each.double().eval() for each in build(models))
        with torch.no_grad():
            own: Tensor = mine(batch).logits[:, 0]
            graph = [bag.adj.to_dense()[None] if mine.needs_adjacency else None for bag in bags]
            each = [
                its(*(t for t in (bag.x[None], a) if t is not None))
                for bag, a in zip(bags, graph, strict=True)
            ]
            given = (x, adj.to_dense(), mask) if mine.needs_adjacency else (x, mask)
            alone = max(alone, ((torch.cat(each) - own).abs() / own.std()).max().item())
            padded = max(padded, ((its(*given) - own).abs() / own.std()).max().item())
    return alone, padded


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="into which torchmil is installed")
    sys.path.insert(0, parser.parse_args().folder)
    from torchmil import models

    print("| `model` | alone | padded |\n| --- | ---: | ---: |")
    for name, build in PAIRS.items():
        alone, padded = differences(build, models)
        print(f"| `{name}` | {alone:.0e} | {padded:.0e} |", flush=True)


if __name__ == "__main__":
    main()
