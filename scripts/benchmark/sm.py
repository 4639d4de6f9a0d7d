"""Smoothed attention against torchmil's, on the same weights and the same graph.

torchmil is no dependency of the project; compare in an environment of your own:

    python -m venv bench
    bench/bin/pip install -e . -c constraints.txt
    bench/bin/pip install torchmil
    bench/bin/python scripts/benchmark/sm.py

The graph is a square grid of tiles with 8 neighbours, symmetrically normalised; times are those of
forward and backward. Alpha is trained and starts at 2/3, which both take from one state dict (the
peer runs its approximate mode with 1 - alpha where alpha is a number). Instances require no
gradient in the pools, and do in Sm alone. The peer takes a padded batch of one bag and the graph as
sparse COO, dense for its exact mode. Contestants take turns; a time is the least of the
repetitions, which other work on the machine disturbs least, on the wall clock; ratios are given in
processor time too. Values and gradients must agree, or there is no table.

Memory is the peak of the process's resident memory above what it held with the input and the
weights in place, in a fresh process each (Linux only). It counts what the libraries take for
themselves, which torch's profiler does not see.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _common import Times, least_times, peak_of
from torch import Tensor, nn

from milforge.graph import build_adjacency
from milforge.nn import AttentionPool, Sm, SmAttentionPool

try:
    from torchmil.nn.attention import SmAttentionPool as PeerPool
    from torchmil.nn.sm import Sm as PeerSm
except ModuleNotFoundError:
    sys.exit("error: this comparison needs torchmil: pip install torchmil")

WIDTH, ATT, STEPS, COEFFICIENT = 1024, 128, 10, 0.5
PLACES = ("early", "mid", "late")
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
TOLERANCE = 1e-5  # of values; of gradients, as a share of the largest

Step = Callable[[], dict[str, Tensor]]


def grid(size: int) -> Tensor:
    """The first tiles of a square, row by row, with 8 neighbours each."""
    side = math.ceil(math.sqrt(size))
    tiles = torch.arange(size)
    coords = torch.stack([tiles // side, tiles % side], 1)
    return build_adjacency(coords, method="grid", neighbours=8)


def pool_step(contestant: str, where: str, size: int) -> Step:
    """Forward and backward of a pool: ours, the peer's, or plain attention."""
    torch.manual_seed(0)
    peer = PeerPool(WIDTH, ATT, sm_steps=STEPS, sm_where=where)
    with torch.no_grad():
        peer.sm.sm.coef.fill_(COEFFICIENT)
    pool: nn.Module = peer
    if contestant == "ours":
        pool = SmAttentionPool(WIDTH, ATT, sm_steps=STEPS, sm_where=where)
        pool.load_state_dict(peer.state_dict())
    elif contestant == "plain":
        pool = AttentionPool(WIDTH, ATT, act="gelu")
    torch.manual_seed(1)  # pools draw different numbers of weights
    x, adj, ptr = torch.randn(size, WIDTH), grid(size), torch.tensor([0, size])
    grad = torch.randn(1, WIDTH)
    if contestant == "torchmil":
        x, adj = x[None], adj.to_sparse_coo()[None].coalesce()
        run = partial(pool, x, adj, return_att=True)
    elif contestant == "ours":
        run = partial(pool, x, adj, ptr=ptr, return_att=True)
    else:
        run = partial(pool, x, ptr=ptr, return_att=True)

    def step() -> dict[str, Tensor]:
        pool.zero_grad()
        z, f = run()
        z.backward(grad)
        grads = {name: p.grad for name, p in pool.named_parameters()}
        return {"z": z.detach(), "f": f.detach().flatten(), **as_coefficient(grads, -1)}

    return step


def sm_step(contestant: str, mode: str, size: int) -> Step:
    """Forward and backward of Sm on `size` x 128, gamma = 1."""
    torch.manual_seed(0)
    sm: nn.Module = Sm(num_steps=STEPS, mode=mode)
    u, adj = torch.randn(size, ATT), grid(size)
    if contestant == "torchmil":
        sm = PeerSm(num_steps=STEPS, mode=mode)
        u, adj = u[None], adj.to_dense()[None]
    u.requires_grad_()

    def step() -> dict[str, Tensor]:
        sm.zero_grad()
        u.grad = None
        out = sm(u, adj)
        # Of the squared norm: against a random gradient that of the coefficient is all rounding.
        out.backward(out.detach())
        grads = {name: p.grad for name, p in sm.named_parameters()}
        values = {"g": out.detach(), "u": u.grad, **as_coefficient(grads, 1)}
        return {name: value.reshape(-1) for name, value in values.items()}

    return step


def as_coefficient(grads: dict[str, Tensor], sign: int) -> dict[str, Tensor]:
    """Gradients under the peer's names; its coefficient is exp(sign * logit of our alpha)."""
    coefficient = COEFFICIENT if sign < 0 else 1.0
    renamed = {}
    for name, grad in grads.items():
        ours = name.endswith("alpha_logit")
        name = name.replace("alpha_logit", "sm.coef")
        renamed[name] = sign * grad / coefficient if ours else grad
    return renamed


def check_agreement(ours: dict[str, Tensor], peer: dict[str, Tensor]) -> None:
    """Ends the run where values or gradients differ."""
    for name, expected in peer.items():
        largest = 1.0 if name in ("z", "f", "g") else float(expected.abs().max())
        difference = float((ours[name] - expected).abs().max()) / largest
        if difference > TOLERANCE:
            sys.exit(f"error: {name} differs by {difference:.2g}")


def ratios(one: Times, other: Times) -> str:
    """How many times longer the other takes: on the wall clock (of the processor)."""
    return f"{other.wall / one.wall:.1f} ({other.processor / one.processor:.1f})"


def memory_of(*case: str, threads: int) -> tuple[float, float]:
    """MB of the process and of a step beyond its input, measured in a fresh process."""
    command = [sys.executable, __file__, "--threads", str(threads), "--memory", *case]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, step = map(float, done.stdout.split())
    return peak, step


def measure_memory(kind: str, contestant: str, how: str, size: str) -> None:
    """Prints the MB of the process and of a step beyond its input. For a process of its own."""
    make = pool_step if kind == "pool" else sm_step
    make(contestant, how, 16)()  # loads the libraries
    print(*peak_of(make(contestant, how, int(size))))


def print_pools(sizes: list[int], repeats: int, threads: int) -> None:
    """SmAttentionPool against the peer's sparse path."""
    print(f"SmAttentionPool, D = {WIDTH}, {STEPS} steps, trained alpha\n")
    print(
        "| N | where | ours, ms | torchmil, ms | torchmil / ours (processor) | ours, MB | "
        "torchmil, MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in sizes:
        for where in PLACES:
            steps = {name: pool_step(name, where, size) for name in ("ours", "torchmil")}
            check_agreement(*(step() for step in steps.values()))
            times = least_times(steps, repeats)
            ours, peer = times["ours"], times["torchmil"]
            memory = [
                memory_of("pool", name, where, str(size), threads=threads)[1] for name in steps
            ]
            print(
                f"| {size:,} | {where} | {ours.wall:.1f} | {peer.wall:.0f} | {ratios(ours, peer)} "
                f"| {memory[0]:.0f} | {memory[1]:.0f} |",
                flush=True,
            )


def print_plain(size: int, repeats: int) -> None:
    """What smoothing adds to plain attention."""
    steps = {"plain": pool_step("plain", "early", size)}
    steps |= {where: pool_step("ours", where, size) for where in PLACES}
    times = least_times(steps, 3 * repeats)
    print(f"\nAgainst plain AttentionPool (gelu), N = {size:,}, D = {WIDTH}\n")
    print("| pool | ms | pool / plain (processor) |\n| --- | --- | --- |")
    for name, taken in times.items():
        print(f"| {name} | {taken.wall:.1f} | {ratios(times['plain'], taken)} |", flush=True)


def print_exact(size: int, large: int, repeats: int, threads: int) -> None:
    """Exact Sm against the peer's dense solve."""
    steps = {name: sm_step(name, "exact", size) for name in ("ours", "torchmil")}
    check_agreement(*(step() for step in steps.values()))
    times = least_times(steps, repeats)
    print(f"\nExact Sm, gamma = 1, N x {ATT}, float32\n")
    print(
        "| N | ours, ms | torchmil (dense solve), ms | torchmil / ours (processor) | ours, MB | "
        "torchmil, MB |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    memory = [memory_of("sm", name, "exact", str(size), threads=threads)[1] for name in steps]
    print(
        f"| {size:,} | {times['ours'].wall:.1f} | {times['torchmil'].wall:.0f} | "
        f"{ratios(*times.values())} | {memory[0]:.0f} | {memory[1]:.0f} |"
    )
    peak, step = memory_of("sm", "ours", "exact", str(large), threads=threads)
    print(
        f"\nN = {large:,}: {step:.0f} MB above the input; the whole process, torch included, peaks "
        f"at {peak * 1e6 / 2**30:.2f} GiB",
        flush=True,
    )


def print_scaling(repeats: int, threads: int, plot: Path | None) -> None:
    """Time and memory against N."""
    print(f"\nSm on N x {ATT}, forward and backward\n")
    print("| mode | N | ms | microseconds an instance | MB | KB an instance |")
    print("| --- | --- | --- | --- | --- | --- |")
    lines: dict[str, list[tuple[float, float]]] = {}
    for mode in ("approx", "exact"):
        for size in SIZES:
            times = least_times({"ours": sm_step("ours", mode, size)}, repeats)["ours"]
            _, megabytes = memory_of("sm", "ours", mode, str(size), threads=threads)
            lines.setdefault(mode, []).append((times.wall, megabytes))
            print(
                f"| {mode} | {size:,} | {times.wall:.1f} | {1e3 * times.wall / size:.2f} | "
                f"{megabytes:.0f} | {1e3 * megabytes / size:.2f} |",
                flush=True,
            )
    if plot is not None:
        draw(lines, plot)


def draw(lines: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Time and memory against N, both axes logarithmic: what is linear has a slope of 1."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for mode, points in lines.items():
        for axis, values in zip(axes, zip(*points, strict=True), strict=True):
            axis.loglog(SIZES, values, marker="o", label=mode)
    for axis, name in zip(axes, ("time, ms", "peak memory above the input, MB"), strict=True):
        axis.set(xlabel="instances", ylabel=name)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_024, 10_000], metavar="N")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--plot", type=Path, help="a file for time and memory against N")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        measure_memory(*options.memory)
        return
    print(
        f"torch {torch.__version__}, {options.threads} threads, {os.cpu_count()} cores; least of "
        f"{options.repeats} interleaved repetitions\n"
    )
    print_pools(options.sizes, options.repeats, options.threads)
    print_plain(10_000, options.repeats)
    print_exact(4_096, 100_000, options.repeats, options.threads)
    print_scaling(options.repeats, options.threads, options.plot)


if __name__ == "__main__":
    main()
