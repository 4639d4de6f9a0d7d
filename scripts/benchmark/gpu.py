"""What a GPU makes of the operators, the models and an epoch: one command of at most eight minutes.

    python scripts/benchmark/gpu.py
    python scripts/benchmark/gpu.py --device cpu --tiny --parts parity ceilings pooling sm epochs

The parts come in this order; one that would begin after `--minutes` is left out, and named:

- `parity`: every model of bags in configs/model, logits and gradients in float32 and under bfloat16
  against float64 on the CPU; and the expectation over sampled patches. Relative errors, by norm.
- `ceilings`: the copy of a large tensor (bytes read and written a second) and products of matrices.
- `pooling`: gated attention, forward and with backward; the bytes of X that it cannot avoid to
  move (read once forward; read again and its gradient written backward) a second, and their share
  of the copy.
- `sm`: attention smoothed over a grid beside plain attention, forward and backward.
- `epochs`: one epoch of gated attention over files of HDF5, from disk, from memory, from the
  device; and beside it padded batches and a loop of one bag a step, which read with h5py.
- `ddp`: the gradient of two processes that share the device, against that of one.

It was written and tried on a CPU; no number of a GPU is claimed by it.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.distributed as dist
from _gpu import Gated, Sizes, difference, least, make_batch
from hydra.utils import get_object
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import milforge
from milforge.api.build import build_network
from milforge.config.messages import config_dir
from milforge.data import BagBatch, FeatureBags, collate_bags, open_reader
from milforge.data.loading.kept import KeptBags
from milforge.data.loading.read_ahead import ReadAhead
from milforge.data.loading.tables import Tables
from milforge.nn import AttentionPool, SmAttentionPool
from milforge.sampling import expectation


def backward(network: nn.Module, batch: BagBatch) -> list[Tensor]:
    """The logits, and the gradients of their squares."""
    network.zero_grad()
    logits = network(batch).logits
    logits.double().square().sum().backward()
    return [logits.detach(), *(p.grad for p in network.parameters() if p.grad is not None)]


def parity(sizes: Sizes) -> None:
    """Every model against itself in float64 on the CPU, in evaluation: nothing is drawn."""
    batch = make_batch((40, 1, 9), 32, torch.float64)
    print("| model | float32 | bfloat16 |\n| --- | --- | --- |")
    for path in sorted(Path(config_dir(), "model").glob("*.yaml"))[: sizes.models]:
        config = milforge.compose("train", [f"model={path.stem}"])
        kind = getattr(get_object(config.model["_target_"]), "batch_type", BagBatch)
        if kind is not BagBatch:
            continue
        torch.manual_seed(0)
        exact = build_network(config, (32,), 3, 0).double().eval()
        expected = backward(exact, batch)
        network = deepcopy(exact).float().to(sizes.device)
        single = make_batch((40, 1, 9), 32, torch.float32).to(sizes.device)
        errors = [difference(backward(network, single), expected)]
        with torch.autocast(sizes.device.type, dtype=torch.bfloat16):
            errors.append(difference(backward(network, single), expected))
        print(f"| {path.stem} | {errors[0]:.1e} | {errors[1]:.1e} |", flush=True)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 10, 4, generator=generator, dtype=torch.float64)
    shares = torch.rand(3, 10, generator=generator, dtype=torch.float64) / 30
    wanted = expectation(values, shares)
    found = expectation(values.float().to(sizes.device), shares.float().to(sizes.device))
    print(f"| sampled patches | {difference([found], [wanted]):.1e} | |")


def copy_ceiling(sizes: Sizes) -> float:
    """Bytes that a copy reads and writes, a second."""
    source = torch.ones(sizes.instances * sizes.width * 4, device=sizes.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / least(lambda: target.copy_(source), sizes)


def ceilings(sizes: Sizes) -> None:
    """What no operator can surpass."""
    print(f"copy: {copy_ceiling(sizes) / 1e9:,.0f} GB/s")
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(sizes.square, sizes.square, dtype=dtype, device=sizes.device)
        seconds = least(lambda a=a: a @ a, sizes)
        print(f"products of {dtype}: {2 * sizes.square**3 / seconds / 1e12:,.2f} TFLOP/s")


def pooling(sizes: Sizes) -> None:
    """Gated attention alone, on the instances themselves."""
    ceiling = copy_ceiling(sizes)
    x = torch.randn(sizes.instances, sizes.width, device=sizes.device, requires_grad=True)
    ptr = torch.linspace(0, sizes.instances, 9, device=sizes.device).long()
    pool = AttentionPool(sizes.width, 128, gated=True).to(sizes.device)

    def both() -> None:
        x.grad = None
        pool(x, ptr=ptr).sum().backward()

    with torch.no_grad():
        forward = least(lambda: pool(x, ptr=ptr), sizes)
    for name, seconds, moved in (("forward", forward, 1), ("both", least(both, sizes), 3)):
        rate = moved * x.nbytes / seconds
        print(
            f"gated attention, {sizes.instances:,} x {sizes.width}, {name}: {1e3 * seconds:.2f} ms,"
            f" {rate / 1e9:,.0f} GB/s, {rate / ceiling:.0%} of the copy"
        )


def sm(sizes: Sizes) -> None:
    """One bag, forward and backward."""
    for count in sizes.grids:
        batch = make_batch((count,), 512, torch.float32).to(sizes.device)
        plain = AttentionPool(512, 128).to(sizes.device)
        smooth = SmAttentionPool(512, 128).to(sizes.device)
        x, adj = batch.x, batch.adj
        assert isinstance(x, Tensor)
        usual = least(lambda x=x, p=plain, b=batch: p(x, ptr=b.ptr).sum().backward(), sizes)
        taken = least(
            lambda x=x, s=smooth, a=adj, b=batch: s(x, a, ptr=b.ptr).sum().backward(), sizes
        )
        print(f"Sm, {count:,} instances: {1e3 * taken:.2f} ms, {taken / usual:.2f} times attention")


def write_bags(folder: Path, sizes: Sizes) -> int:
    """Bags of float16, and how many instances they have."""
    rng = np.random.default_rng(0)
    some = rng.standard_normal((sizes.instances, sizes.width), np.float32).astype(np.float16)
    counts = (sizes.instances * np.exp(rng.uniform(math.log(0.05), 0, sizes.bags))).astype(int)
    for number, count in enumerate(counts):
        with h5py.File(folder / f"{number:05}.h5", "w") as file:
            file["features"] = some[:count]
    time.sleep(2.1)  # files that have just been written are not trusted to stay as they are
    return int(counts.sum())


def epochs(sizes: Sizes) -> None:
    """Instances a second of whole epochs, the first of each way unmeasured."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = write_bags(folder, sizes)
        bags = FeatureBags(open_reader(folder, coords_key=None))
        groups = [list(range(i, min(i + 8, len(bags)))) for i in range(0, len(bags), 8)]
        empty = collate_bags([bags[0]]).without_bags()
        tables = Tables()
        tables.pinned = sizes.device.type == "cuda"
        ahead = ReadAhead(bags, empty, tables, threads=4)
        kept = {
            where: KeptBags(bags, empty, tables, device=device, threads=4)
            for where, device in (("memory", torch.device("cpu")), ("device", sizes.device))
        }
        network = Gated(sizes.width).to(sizes.device)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-4)

        def step(x: Tensor, **which: Tensor) -> None:
            optimizer.zero_grad()
            network(x.float(), **which).square().mean().backward()
            optimizer.step()

        def packed(batches: Iterable[BagBatch]) -> None:
            for batch in batches:
                moved = batch.to(sizes.device)
                assert isinstance(moved.x, Tensor)
                step(moved.x, ptr=moved.ptr)

        def read(number: int) -> Tensor:
            with h5py.File(folder / f"{number:05}.h5") as file:
                return torch.from_numpy(file["features"][()])

        def padded() -> None:
            for numbers in groups:
                each = [read(number) for number in numbers]
                counts = torch.tensor([len(x) for x in each])
                x = nn.utils.rnn.pad_sequence(each, batch_first=True).to(sizes.device)
                mask = (torch.arange(x.shape[1]) < counts[:, None]).to(sizes.device)
                step(x, mask=mask)

        def one_by_one() -> None:
            for number in range(len(bags)):
                x = read(number).to(sizes.device)
                step(x, ptr=torch.tensor([0, len(x)], device=sizes.device))

        ways: dict[str, Callable[[], None]] = {
            "from disk": lambda: packed(ahead(groups)),
            "from memory": lambda: packed(kept["memory"](groups)),
            "from the device": lambda: packed(kept["device"](groups)),
            "padded, h5py": padded,
            "one bag a step, h5py": one_by_one,
        }
        for way, epoch in ways.items():
            seconds = least(epoch, replace(sizes, repeats=min(2, sizes.repeats)))
            print(f"epoch {way}: {total / seconds / 1e6:.2f} M instances/s", flush=True)


def ddp(sizes: Sizes) -> None:
    """Two processes on one device, by gloo: NCCL wants a device for each."""
    with tempfile.TemporaryDirectory() as name:
        torch.multiprocessing.spawn(_of_rank, (name, str(sizes.device)), nprocs=2)


def _of_rank(rank: int, folder: str, device: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    alone = Gated(32).to(device)
    shared = DistributedDataParallel(deepcopy(alone))
    x, ptr = torch.randn(60, 32).to(device), torch.tensor([0, 20, 60]).to(device)
    alone(x, ptr=ptr).square().mean().backward()
    own = x[:20] if rank == 0 else x[20:]
    shared(own, ptr=torch.tensor([0, len(own)]).to(device)).square().mean().backward()
    found, expected = ([p.grad for p in each.parameters()] for each in (shared, alone))
    if rank == 0:
        error = difference(found, [each.cpu() for each in expected])
        print(f"ddp, two processes: gradient differs by {error:.1e}", flush=True)
    dist.destroy_process_group()


PARTS = {each.__name__: each for each in (parity, ceilings, pooling, sm, epochs, ddp)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=7.0, help="no part begins after these")
    parser.add_argument("--tiny", action="store_true", help="to try the command, not to measure")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("expected a GPU, found none: --device cpu --tiny tries the command without")
    sizes = (
        Sizes(device, 16, 9, 60, 32, (64,), 1, models=2)
        if given.tiny
        else Sizes(device, 1024, 200, 20_000, 8192, (1024, 10_000), 10)
    )
    start = time.perf_counter()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}")
    for part in given.parts:
        if time.perf_counter() - start > 60 * given.minutes:
            print(f"{part}: left out, the time is over")
            continue
        print(f"# {part}", flush=True)
        PARTS[part](sizes)


if __name__ == "__main__":
    main()
