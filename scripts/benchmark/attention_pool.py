"""Forward and backward of AttentionPool against torchmil's, on the same weights and bags.

torchmil is no dependency of the project; compare in an environment of your own:

    python -m venv bench
    bench/bin/pip install -e . -c constraints.txt
    bench/bin/pip install torchmil
    bench/bin/python scripts/benchmark/attention_pool.py

A draw is 8 bags of log-normal size (mean 2,000, sigma 1), D = 1,024; ours takes them packed, the
peer padded with a mask; the instances require no gradient. A draw decides how much is padded, so
there are several, seeds 0, 1, 2 and so on, and none is left out. "Products" are the matrix
products that no implementation can avoid, X W^T forward and G^T X backward for each projection.
The contestants take turns; a time is the least of the repetitions, which other work on the machine
disturbs least. Values and gradients must agree, or there is no table.

Memory is the peak of the process's resident memory above what it held with the input and the
weights in place, in a fresh process each (`VmHWM`, reset through `/proc/self/clear_refs`: Linux
only). It counts what the libraries take for themselves, which torch's profiler does not see, and
nothing of the parent process, which `ru_maxrss` may.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from milforge.data import Bag, collate_bags
from milforge.nn import AttentionPool

try:
    from torchmil.nn.attention import AttentionPool as PeerPool
except ModuleNotFoundError:
    sys.exit("error: this comparison needs torchmil: pip install torchmil")

BAGS, MEAN, SIGMA, WIDTH, ATT = 8, 2000, 1.0, 1024, 128
TOLERANCE = 1e-5  # of z; of gradients, as a share of the largest


def draw_sizes(seed: int) -> list[int]:
    """Log-normal bag sizes whose expectation is `MEAN`."""
    drawn = np.random.default_rng(seed).lognormal(math.log(MEAN) - SIGMA**2 / 2, SIGMA, BAGS)
    return [max(1, round(size)) for size in drawn]


def padding(sizes: list[int]) -> float:
    """Rows of the padded form over instances."""
    return len(sizes) * max(sizes) / sum(sizes)


def make_pools(gated: bool) -> tuple[AttentionPool, nn.Module]:
    """Ours and the peer's, with the peer's weights."""
    torch.manual_seed(0)
    peer = PeerPool(WIDTH, ATT, gated=gated)
    ours = AttentionPool(WIDTH, ATT, gated=gated)
    ours.load_state_dict(peer.state_dict())
    return ours, peer


class Times(NamedTuple):
    """Milliseconds of a draw."""

    sizes: list[int]
    ours: float
    peer: float
    products: float


def step(pool: nn.Module, grad: Tensor, *args: Tensor, **kwargs: Tensor) -> Tensor:
    """Forward and backward."""
    pool.zero_grad()
    z: Tensor = pool(*args, **kwargs)
    z.backward(grad)
    return z.detach()


def check_agreement(ours: nn.Module, peer: nn.Module, z: Tensor, z_peer: Tensor) -> None:
    """Ends the run where values or gradients differ."""
    difference = float((z - z_peer).abs().max())
    if difference > TOLERANCE:
        sys.exit(f"error: the values differ by {difference:.2g}")
    grads = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in peer.named_parameters():
        got, expected = grads[name.replace(".module.", ".")], parameter.grad
        difference = float((got - expected).abs().max() / expected.abs().max())
        if difference > TOLERANCE:
            sys.exit(f"error: the gradients of {name} differ by {difference:.2g} of the largest")


def time_draw(seed: int, gated: bool, repeats: int) -> Times:
    """Times one draw, the contestants taking turns."""
    sizes = draw_sizes(seed)
    ours, peer = make_pools(gated)
    torch.manual_seed(seed)
    batch = collate_bags([Bag(torch.randn(size, WIDTH)) for size in sizes])
    x, ptr = batch.x, batch.ptr
    assert isinstance(x, Tensor)
    padded, mask, _ = batch.padded()
    grad = torch.randn(BAGS, WIDTH)
    weights = [torch.randn(ATT, WIDTH) for _ in range(1 + gated)]
    grads = [torch.randn(len(x), ATT) for _ in weights]

    def products() -> None:
        for weight, hidden in zip(weights, grads, strict=True):
            x @ weight.T
            hidden.T @ x

    contestants: list[Callable[[], object]] = [
        lambda: step(ours, grad, x, ptr=ptr),
        lambda: step(peer, grad, padded, mask),
        products,
    ]
    check_agreement(ours, peer, step(ours, grad, x, ptr=ptr), step(peer, grad, padded, mask))
    least = [math.inf] * len(contestants)
    for _ in range(repeats):
        for i, contestant in enumerate(contestants):
            start = perf_counter()
            contestant()
            least[i] = min(least[i], 1e3 * (perf_counter() - start))
    return Times(sizes, *least)


def resident(field: str) -> float:
    """Resident memory of this process in MB: `VmRSS` now, `VmHWM` at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"expected {field} in /proc/self/status: memory is measured on Linux only")


def measure_memory(contestant: str, seed: int, gated: bool) -> None:
    """Prints the MB of the input, and those of a step beyond it. For a process of its own."""
    sizes = draw_sizes(seed)
    ours, peer = make_pools(gated)
    pool = ours if contestant == "ours" else peer
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    if contestant == "ours":
        x = torch.randn(sum(sizes), WIDTH)
        step(pool, torch.zeros(1, WIDTH), x[:8], ptr=torch.tensor([0, 8]))  # loads the libraries
        inputs = {"X": x, "ptr": ptr}
    else:
        # Filled, not torch.zeros: pages that were never written take no memory.
        x = torch.empty(BAGS, max(sizes), WIDTH).normal_()
        mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
        step(pool, torch.zeros(1, WIDTH), x[:1, :8], mask[:1, :8])
        inputs = {"X": x, "mask": mask}
    pool.zero_grad()
    grad = torch.randn(BAGS, WIDTH)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = resident("VmRSS")
    step(pool, grad, **inputs)
    print(x.nbytes / 1e6, resident("VmHWM") - before)


def memory_of(contestant: str, seed: int, gated: bool, threads: int) -> tuple[float, float]:
    """MB of the input and of a step beyond it, measured in a fresh process."""
    command = [sys.executable, __file__, "--memory", contestant, "--seed", str(seed)]
    command += ["--threads", str(threads), *(["--gated"] if gated else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, peak = map(float, done.stdout.split())
    return size, peak


def print_tables(draws: int, repeats: int, threads: int) -> None:
    """Measures everything and prints the three tables."""
    print(
        f"torch {torch.__version__}, {threads} threads, {os.cpu_count()} cores; {BAGS} bags, "
        f"D = {WIDTH}, att_dim = {ATT}; {draws} draws, least of {repeats} interleaved repetitions\n"
    )
    paddings = [padding(draw_sizes(seed)) for seed in range(draws)]
    results = {
        gated: [time_draw(seed, gated, repeats) for seed in range(draws)] for gated in (False, True)
    }
    print(
        "| attention | ours, ms | torchmil, ms | products, ms | torchmil / ours | ours / products |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for gated, times in results.items():
        speed = [t.peer / t.ours for t in times]
        excess = [t.ours / t.products for t in times]
        columns = [statistics.median(column) for column in list(zip(*times, strict=True))[1:]]
        cells = [f"{value:.0f}" for value in columns] + [spread(speed), spread(excess)]
        print(f"| {'gated' if gated else 'plain'} | {' | '.join(cells)} |")
    print("\nmedian over the draws [least, largest]\n")

    print("| seed | instances | largest bag | padded / packed | plain: torchmil / ours | gated |")
    print("| --- | --- | --- | --- | --- | --- |")
    for seed, (plain, gated_) in enumerate(zip(results[False], results[True], strict=True)):
        sizes = plain.sizes
        print(
            f"| {seed} | {sum(sizes):,} | {max(sizes):,} | {paddings[seed]:.1f} | "
            f"{plain.peer / plain.ours:.1f} | {gated_.peer / gated_.ours:.1f} |"
        )

    median = sorted(range(draws), key=paddings.__getitem__)[draws // 2]
    print(f"\nPeak memory, seed {median} (the draw of median padding)\n")
    print("| attention | | input, MB | a step beyond it, MB |")
    print("| --- | --- | --- | --- |")
    for gated in (False, True):
        for contestant in ("ours", "torchmil"):
            size, peak = memory_of(contestant, median, gated, threads)
            print(f"| {'gated' if gated else 'plain'} | {contestant} | {size:.0f} | {peak:.0f} |")


def spread(values: list[float]) -> str:
    """Median, least and largest."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=9, help="sets of bags, seeds 0 to DRAWS - 1")
    parser.add_argument("--repeats", type=int, default=9, help="interleaved repetitions of a draw")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", choices=["ours", "torchmil"], help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--gated", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        measure_memory(options.memory, options.seed, options.gated)
    else:
        print_tables(options.draws, options.repeats, options.threads)


if __name__ == "__main__":
    main()
