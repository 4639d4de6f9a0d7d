"""What a training step costs beyond a PyTorch loop written by hand.

    python scripts/benchmark/training_loop.py

The real training (the configs of `milforge-train` with `trainer=cpu logger=csv`, all callbacks but
the figures and predictions of the test) against a loop of the same network, bags, loss, optimiser
and steps, which keeps nothing but the mean loss: metrics, logging, checkpoints and progress all
count as overhead. A run is a warm-up epoch and then measured ones, from the start of an epoch to
the start of the next, validation and epoch end included; the fastest epoch counts. The two take
turns, run by run, and must end with equal weights, or there is no table. Given is the median of
the runs' differences, in wall-clock time and in processor time; the latter is not disturbed by
other work on the machine.
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import hydra
import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch import Tensor, nn

from milforge.api.build import make, make_data
from milforge.api.learning import make_learning
from milforge.api.monitor import with_monitor
from milforge.api.trainer import make_trainer, quiet_run
from milforge.api.training import make_module
from milforge.config.hydra_versions import VERSION_BASE
from milforge.config.messages import config_dir
from milforge.config.schema import register
from milforge.data import Bag, BagSplits, Loader
from milforge.training import MILDataModule, MILModule


class RandomBags:
    """Bags of random features, in memory."""

    def __init__(self, count: int, size: int, width: int, instance_labels: bool, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 2
        self._x = [torch.randn(size, width, generator=generator) for _ in range(count)]
        self._y_inst = [
            torch.randint(0, 2, (size,), generator=generator) * y if instance_labels else None
            for y in self.labels
        ]

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> Bag:
        return Bag(
            self._x[index],
            y=int(self.labels[index]),
            y_inst=self._y_inst[index],
            bag_id=f"bag_{index}",
        )


def large_bags(steps: int, instance_labels: bool) -> MILDataModule:
    """Bags of 10,000 instances with 1,024 features, one per step."""

    def draw() -> BagSplits[Bag]:
        parts = [
            RandomBags(count, 10_000, 1024, instance_labels, seed)
            for seed, count in enumerate((steps, 2, 2))
        ]
        return BagSplits(*parts, class_names=("negative", "positive"))

    return MILDataModule(draw, loader=Loader(batch_size=1))


class Clock(NamedTuple):
    """Seconds on the wall, and of this process's threads."""

    wall: float
    cpu: float


def now() -> Clock:
    return Clock(perf_counter(), process_time())


class EpochClock(Callback):
    """Reads the clock where an epoch begins, and where the last one ends."""

    def __init__(self) -> None:
        self.marks: list[Clock] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """An epoch begins."""
        self.marks.append(now())

    def on_train_end(self, *_: Any) -> None:
        """The last epoch has ended."""
        self.marks.append(now())


class Case(NamedTuple):
    """What is trained: the config, and what makes its data."""

    name: str
    overrides: list[str]
    make_data: Callable[[DictConfig], MILDataModule]


def compose(case: Case, epochs: int, folder: str) -> DictConfig:
    """The config of `milforge-train` for the case."""
    overrides = [
        *case.overrides,
        "trainer=cpu",
        "logger=csv",
        "~callbacks.figures",
        "~callbacks.predictions",
        f"trainer.max_epochs={epochs}",
        f"paths.output_dir={folder}",
        "standardise=null",
    ]
    with hydra.initialize_config_dir(config_dir(), **VERSION_BASE):
        return hydra.compose("train", overrides)


def fit_milforge(config: DictConfig, module: MILModule, data: MILDataModule) -> list[Clock]:
    """The real training."""
    clock = EpochClock()
    trainer = make_trainer(with_monitor(config, module))
    trainer.callbacks.insert(0, clock)
    trainer.fit(module, data)
    return clock.marks


def fit_by_hand(
    config: DictConfig, network: nn.Module, data: MILDataModule, epochs: int
) -> list[Clock]:
    """The loop that one would write for this network and these bags."""
    optimizer = make(config.optimizer)(network.parameters())
    loss_of = nn.BCEWithLogitsLoss()
    train, val = data.train_dataloader(), data.val_dataloader()
    marks = []
    for epoch in range(epochs):
        marks.append(now())
        train.batch_sampler.set_epoch(epoch)
        network.train()
        total = 0.0
        for batch in train:
            loss = loss_of(network(batch).logits[:, 0], batch.y.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        network.eval()
        with torch.no_grad():
            for batch in val:
                total += loss_of(network(batch).logits[:, 0], batch.y.float()).item()
    return [*marks, now()]


def fastest(marks: list[Clock]) -> Clock:
    """The shortest epoch after the first."""
    epochs = [Clock(b.wall - a.wall, b.cpu - a.cpu) for a, b in pairwise(marks[1:])]
    return Clock(min(epoch.wall for epoch in epochs), min(epoch.cpu for epoch in epochs))


def differs(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts differ in any bit."""
    return any(not torch.equal(a[name], b[name]) for name in a)


def measure(case: Case, runs: int, epochs: int) -> str:
    """A row of the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs):
            config = compose(case, epochs + 1, str(Path(folder) / str(run)))
            if run == 0:
                data = case.make_data(config)
                data.setup()
            L.seed_everything(config.seed, verbose=False)
            learning = make_learning(config, data.task, data.labels("train"))
            module = make_module(config, data, learning)
            network = copy.deepcopy(module.network)
            with quiet_run(config):
                ours = fastest(fit_milforge(config, module, data))
            data.trainer = None
            hand = fastest(fit_by_hand(config, network, data, epochs + 1))
            if differs(module.network.state_dict(), network.state_dict()):
                sys.exit(f"error: {case.name}: the two trainings end with different weights")
            steps = len(data.train_dataloader())
            rows.append([1e3 * t / steps for t in (hand.wall, ours.wall, hand.cpu, ours.cpu)])
    columns = [statistics.median(column) for column in zip(*rows, strict=True)]
    wall = [row[1] - row[0] for row in rows]
    cpu = [row[3] - row[2] for row in rows]
    return (
        f"| {case.name} | {steps} | {columns[0]:.1f} | {columns[1]:.1f} | "
        f"{statistics.median(wall):.2f} [{min(wall):.2f}, {max(wall):.2f}] | "
        f"{statistics.median(cpu):.2f} [{min(cpu):.2f}, {max(cpu):.2f}] |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="measured epochs a run")
    parser.add_argument("--steps", type=int, default=20, help="steps an epoch with large bags")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)  # as trainer=cpu has it, for both
    register()
    large = ["model/encoder=identity", "loader.batch_size=1"]
    cases = [
        Case("digits_bags, batch 8", [], lambda config: make_data(config)),
        Case("10,000 x 1,024, batch 1", large, lambda _: large_bags(options.steps, False)),
        Case("the same with instance labels", large, lambda _: large_bags(options.steps, True)),
    ]
    print(
        f"torch {torch.__version__}, lightning {L.__version__}, {options.threads} threads, "
        f"{os.cpu_count()} cores; {options.runs} runs, fastest of {options.epochs} epochs\n"
    )
    print("| bags | steps an epoch | by hand, ms a step | milforge | overhead, wall | processor |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        print(measure(case, options.runs, options.epochs), flush=True)


if __name__ == "__main__":
    main()
