"""What several processes cost: bytes and time of what they send each other in a training step.

    python scripts/benchmark/scaling.py

Gated attention over an encoder 1,024-512, as CLAM sizes it, in real processes on this machine
(gloo, one thread each). The global batch is the same at any number of processes: 6 bags of 4,000
instances. "Step" is the median over the training steps of Lightning's loop as `milforge-train` runs
it; "gradients" the same all-reduce of the gradients alone, "small" the other collectives of a step
(the mean number of bags and whether a loss is not finite, whether a signal has come, Lightning's
own for SIGTERM). More processes than processors share them: look at the collectives there, not at
the step.
"""

import argparse
import logging
import os
import socket
import tempfile
import warnings
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import lightning as L
import torch
from torch import Tensor, distributed
from torch.multiprocessing import start_processes

from milforge.api.trainer import HARMLESS
from milforge.data import Bag, BagSplits, Loader
from milforge.models import BagNetwork
from milforge.nn import AttentionPool, MLPEncoder
from milforge.tasks import Binary
from milforge.training import MILDataModule, MILModule

WIDTH, HIDDEN, BAGS, INSTANCES, STEPS = 1024, 512, 6, 4000, 8


class RandomBags:
    """Bags in memory, all alike."""

    def __init__(self, count: int) -> None:
        self.labels = torch.arange(count) % 2
        self.x = torch.randn(INSTANCES, WIDTH, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Bag:
        return Bag(self.x, y=int(self.labels[index]), bag_id=str(index))


def random_bags() -> BagSplits[Bag]:
    """Training bags for so many steps."""
    parts = (RandomBags(count) for count in (BAGS * STEPS, 4, 4))
    return BagSplits(*parts, class_names=("no", "yes"))


class StepTimes(L.Callback):
    """Seconds of each training step, reading and collating its bags included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:  # noqa: D102
        self.last = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: D102
        now = perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def make_module(data: MILDataModule) -> MILModule:
    torch.manual_seed(0)
    network = BagNetwork(
        (WIDTH,),
        1,
        encoder=partial(MLPEncoder, hidden=(HIDDEN,)),
        pool=partial(AttentionPool, att_dim=256, gated=True),
    )
    adam = partial(torch.optim.Adam, lr=1e-4)
    return MILModule(network, data.task, optimizer=adam)


def measure(rank: int, processes: int, port: int, path: str) -> None:
    """The times of one process; the first one writes them."""
    torch.set_num_threads(1)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    if processes > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
        os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    times = StepTimes()
    trainer = L.Trainer(
        accelerator="cpu",
        strategy="ddp" if processes > 1 else "auto",
        devices=processes,
        max_epochs=1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[times],
    )
    data = MILDataModule(
        random_bags, task=Binary(), loader=Loader(batch_size=BAGS, eval_batch_size=1)
    )
    module = make_module(data)
    trainer.fit(module, data)
    size = sum(each.numel() for each in module.parameters())
    found = {"step": median(times.seconds[2:]), "gradients": 0.0, "small": 0.0}
    if processes > 1:
        found["gradients"] = timed(torch.zeros(size))
        found["small"] = 3 * timed(torch.zeros(2))
    if rank == 0:
        torch.save({**found, "parameters": size}, path)


def timed(tensor: Tensor, repeats: int = 20) -> float:
    """Median seconds of an all-reduce."""
    seconds = []
    for _ in range(repeats):
        distributed.barrier()
        begin = perf_counter()
        distributed.all_reduce(tensor)
        seconds.append(perf_counter() - begin)
    return median(seconds)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    print("| processes | step, ms | gradients, MB sent by each | gradients, ms | small, ms |")
    print("| --- " * 5 + "|")
    for processes in arguments.processes:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "times.pt")
            start_processes(measure, (processes, free_port(), path), processes)
            found = torch.load(path, weights_only=True)
        # In a ring each process sends this share of the tensor twice.
        sent = 2 * (processes - 1) / processes * 4 * found["parameters"] / 1e6
        times = (f"{1e3 * found[name]:.1f}" for name in ("gradients", "small"))
        print(f"| {processes} | {1e3 * found['step']:.0f} | {sent:.1f} | {' | '.join(times)} |")


if __name__ == "__main__":
    main()
