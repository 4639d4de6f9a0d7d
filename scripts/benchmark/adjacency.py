"""Building the adjacency of a slide, against torchmil's builder on the same coords.

torchmil is no dependency of the project; compare in an environment of your own (without torchmil
only our times are printed):

    python -m venv bench
    bench/bin/pip install -e . -c constraints.txt
    bench/bin/pip install torchmil
    bench/bin/python scripts/benchmark/adjacency.py

The slide is a square of tiles, 150 x 150 = 22,500 instances, or as many tiles of a larger square
with holes; the radius is sqrt(2) strides, k is 8. Ours returns the normalised CSR tensor; the
peer's time is that of `build_adj` and `normalize_adj`, which give edges and weights that are no
tensor yet. The peer has no kNN: its radius graph, of the same 8 neighbours inside the tissue, is
what kNN is compared with. Our kNN searches with as many threads as torch has, all else is one
thread in both. The contestants take turns; a time is the least of the repetitions, which
other work on the machine disturbs least. The edges and weights of the two must be equal, or there
is no table. `check` is the time of `check_adjacency` on the result, which is spent once a bag.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from milforge.graph import build_adjacency, check_adjacency

try:
    from torchmil.utils.graph_utils import build_adj, normalize_adj
except ModuleNotFoundError:
    build_adj = normalize_adj = None

STRIDE = 448
RADIUS = math.sqrt(2) * STRIDE + 1e-3  # the peer has no tolerance for rounding
TOLERANCE = 1e-6


def slide(side: int, holes: bool) -> Tensor:
    """Coords of side^2 tiles, in level-0 pixels: a square, or what 70% of a larger one holds."""
    outer = math.ceil(side / math.sqrt(0.7)) + 2 if holes else side
    coords = torch.cartesian_prod(torch.arange(outer), torch.arange(outer)) * STRIDE
    if holes:
        kept = np.random.default_rng(0).permutation(len(coords))[: side**2]
        coords = coords[torch.from_numpy(np.sort(kept))]
    return coords


def peer(coords: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The peer's edges and normalised weights."""
    edges, weights = build_adj(coords, None, dist_thr=RADIUS)
    return edges, normalize_adj(edges, weights, n_nodes=len(coords))


def check_agreement(adj: Tensor, edges: Any, weights: Any) -> None:
    """Ends the run where the graphs differ; the peer leaves the rows of isolated tiles empty."""
    coo = adj.to_sparse_coo().coalesce()
    off_diagonal = coo.indices()[0] != coo.indices()[1]
    ours = coo.indices()[:, off_diagonal].numpy()
    order = np.lexsort((edges[1], edges[0]))
    if not np.array_equal(ours, edges[:, order]):
        sys.exit("error: the edges differ")
    difference = np.abs(coo.values()[off_diagonal].numpy() - weights[order]).max()
    if difference > TOLERANCE:
        sys.exit(f"error: the weights differ by {difference:.2g}")


def least_times(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds, the contestants taking turns."""
    least = dict.fromkeys(contestants, math.inf)
    for _ in range(repeats):
        for name, contestant in contestants.items():
            start = perf_counter()
            contestant()
            least[name] = min(least[name], 1e3 * (perf_counter() - start))
    return least


def print_table(side: int, repeats: int) -> None:
    """Measures everything and prints the table."""
    print(
        f"torch {torch.__version__}, scipy {scipy.__version__}, {torch.get_num_threads()} threads, "
        f"{os.cpu_count()} cores; N = {side**2:,}; least of {repeats} interleaved repetitions\n"
    )
    print("| slide | builder | edges | ours, ms | check, ms | torchmil, ms | torchmil / ours |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, coords in (("square", slide(side, False)), ("with holes", slide(side, True))):
        builders: dict[str, Callable[[], Tensor]] = {
            "radius": lambda c=coords: build_adjacency(c, radius=RADIUS),
            "grid": lambda c=coords: build_adjacency(c, method="grid"),
            "knn": lambda c=coords: build_adjacency(c, method="knn", k=8),
        }
        adjs = {method: build() for method, build in builders.items()}
        contestants: dict[str, Callable[[], object]] = {**builders}
        for method, adj in adjs.items():
            contestants[f"check {method}"] = lambda a=adj: check_adjacency(a)
        if build_adj is not None:
            points = coords.numpy().astype(np.float64)
            for method in ("radius", "grid"):
                check_agreement(adjs[method], *peer(points))
            contestants["torchmil"] = lambda p=points: peer(p)
        times = least_times(contestants, repeats)
        for method, adj in adjs.items():
            theirs = times.get("torchmil", math.nan)
            print(
                f"| {name} | {method} | {adj.values().numel():,} | {times[method]:.1f} | "
                f"{times[f'check {method}']:.1f} | {theirs:.0f} | {theirs / times[method]:.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=150, help="tiles along a side: N = SIDE^2")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_table(options.side, options.repeats)


if __name__ == "__main__":
    main()
