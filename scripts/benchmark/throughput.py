"""One epoch of attention MIL on features on disk, against reading the files and against torchmil.

    pip install torchmil==1.0.2 --no-deps && pip install pandas tqdm   # into the same environment
    python scripts/benchmark/throughput.py FOLDER            # writes 200 bags there, about 5 GB
    python scripts/benchmark/throughput.py FOLDER --layout clam               # about 10 GB
    python scripts/benchmark/throughput.py FOLDER --bags 2000 --largest 2000   # memory stays flat

The bags have 1,000 to 20,000 instances (log-uniform) of 1,024 features, one HDF5 file a bag in the
folders of CLAM: float16 and each dataset in one piece, or with `--layout clam` float32 with a chunk
for every row, as CLAM writes them. For torchmil the same bags lie in `.npy` files. Compared are,
each in a process of its own: `h5py` alone, which reads every file and throws it away; an epoch of
`milforge-train` without validation, `data=feature_bags model=abmil model/encoder=identity`, bag by
bag and in batches by budget, the start of the trainer included; the usual loop, which reads a bag
with `h5py`, features and coords, and steps; an epoch of `torchmil.utils.Trainer` with
`torchmil.models.ABMIL`, bag by bag; and the two products with the features that no implementation
avoids, of bags in memory. How long MilForge waits for its batches is measured from the end of a
step to the beginning of the next. The same files are read before, so that all find them in the
cache of the system.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import h5py
import numpy as np
from _common import resident
from reading import write_bag

WIDTH, ATT_DIM = 1024, 128


def write_bags(folder: Path, layout: str, count: int, smallest: int, largest: int) -> None:
    """Random bags, as CLAM and as torchmil lay them out; nothing where they are there."""
    made = folder / f"made_{layout}_{count}_{smallest}_{largest}.json"
    if made.is_file():
        return
    for name in ("clam/h5_files", "torchmil/features", "torchmil/labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(smallest), np.log(largest), count)).astype(int)
    with (folder / "clam" / "labels.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["case_id", "slide_id", "label"])
        for i, size in enumerate(sizes):
            x = rng.standard_normal((size, WIDTH), dtype=np.float32)
            path = folder / "clam" / "h5_files" / f"bag_{i}.h5"
            if layout == "contiguous":
                x = x.astype(np.float16)
                with h5py.File(path, "w") as file:
                    file["features"] = x
                    file["coords"] = rng.integers(0, 100_000, (size, 2))
            else:
                write_bag(layout, path, x)
            np.save(folder / "torchmil" / "features" / f"bag_{i}.npy", x)
            np.save(folder / "torchmil" / "labels" / f"bag_{i}.npy", np.array([i % 2]))
            table.writerow([f"patient_{i}", f"bag_{i}", i % 2])
    made.write_text(json.dumps({"instances": int(sizes.sum())}))


def split_files(folder: Path, count: int) -> None:
    """All bags but two train: one validates, one tests, and neither is looked at."""
    names = [f"bag_{i}" for i in range(count)]
    (folder / "clam" / "splits_0.csv").write_text(
        "train,val,test\n"
        + f"{names[0]},{names[-2]},{names[-1]}\n"
        + "".join(f"{name},,\n" for name in names[1:-2])
    )


def read_raw(folder: Path, count: int) -> Callable[[], int]:
    files = [folder / "clam" / "h5_files" / f"bag_{i}.h5" for i in range(count - 2)]

    def epoch() -> int:
        instances = 0
        for path in files:
            with h5py.File(path) as file:
                instances += len(file["features"][()])
                file["coords"][()]
        return instances

    return epoch


def usual_loop(folder: Path, count: int) -> Callable[[], int]:
    """`h5py`, one bag a step, as the scripts of papers do."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    files = [folder / "clam" / "h5_files" / f"bag_{i}.h5" for i in range(count - 2)]
    network = torch.nn.Sequential(
        torch.nn.Linear(WIDTH, ATT_DIM), torch.nn.Tanh(), torch.nn.Linear(ATT_DIM, 1)
    )
    head = torch.nn.Linear(WIDTH, 1)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=1e-3)

    def epoch() -> int:
        instances = 0
        for i in torch.randperm(len(files)).tolist():
            with h5py.File(files[i]) as file:
                x = torch.from_numpy(file["features"][()]).float()
                file["coords"][()]
            weights = network(x).softmax(0)
            logit = head(weights.T @ x).squeeze()
            loss = binary_cross_entropy_with_logits(logit, torch.tensor(float(i % 2)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            instances += len(x)
        return instances

    return epoch


def products(folder: Path, count: int) -> Callable[[], int]:
    """Scores from features, and the gradient of their weights."""
    import torch

    sizes = []
    for i in range(count - 2):
        with h5py.File(folder / "clam" / "h5_files" / f"bag_{i}.h5") as file:
            sizes.append(len(file["features"]))
    x, weights = torch.randn(max(sizes), WIDTH), torch.randn(WIDTH, ATT_DIM)

    def epoch() -> int:
        for size in sizes:
            hidden = x[:size] @ weights
            x[:size].T @ hidden
        return sum(sizes)

    return epoch


def milforge(folder: Path, budget: int | None, waits: dict[str, float]) -> Callable[[], int]:
    import hydra
    import lightning as L

    from milforge.api.build import make, make_data
    from milforge.api.learning import make_learning
    from milforge.api.training import make_module
    from milforge.config.hydra_versions import VERSION_BASE
    from milforge.config.messages import config_dir
    from milforge.config.schema import register

    register()
    overrides = [
        "data=feature_bags",
        f"data.root={folder / 'clam'}",
        f"data.labels={folder / 'clam' / 'labels.csv'}",
        "split=files",
        f"split.path={folder / 'clam'}",
        "split.fold=0",
        "task.class_names=['0','1']",
        "standardise=null",
        "loader.batch_size=1" if budget is None else "loader.batch_size=64",
        f"loader.max_instances={'null' if budget is None else budget}",
        "model=abmil",
        "model/encoder=identity",
        f"model.pool.att_dim={ATT_DIM}",
        "logger=none",
        "~callbacks",
        "trainer.max_epochs=1",
        "+trainer.limit_val_batches=0",
        "+trainer.enable_checkpointing=false",
        "+trainer.enable_progress_bar=false",
        "paths.output_dir=.",
    ]
    with hydra.initialize_config_dir(config_dir(), **VERSION_BASE):
        config = hydra.compose("train", overrides)
    data = make_data(config)
    module = make_module(config, data, make_learning(config, data.task, data.labels("train")))
    instances = int(data.parts["train"].sizes.sum())

    class Waiting(L.Callback):
        since = 0.0

        def on_train_epoch_start(self, *_: object) -> None:
            self.since = perf_counter()

        def on_train_batch_start(self, *_: object) -> None:
            waits["waiting"] = waits.get("waiting", 0.0) + perf_counter() - self.since

        def on_train_batch_end(self, *_: object) -> None:
            self.since = perf_counter()

    trainer: L.Trainer = make(config.trainer, logger=False, callbacks=[Waiting()])

    def epoch() -> int:
        trainer.fit(module, data)
        return instances

    return epoch


def torchmil_epoch(folder: Path, count: int, workers: int) -> Callable[[], int]:
    import torch
    from torchmil.data import collate_fn
    from torchmil.datasets import ProcessedMILDataset
    from torchmil.models import ABMIL
    from torchmil.utils import Trainer

    names = [f"bag_{i}" for i in range(count - 2)]

    def read(path: str, kind: str) -> np.ndarray:
        return np.load(path).astype(np.float32).squeeze()

    dataset = ProcessedMILDataset(
        features_path=str(folder / "torchmil" / "features"),
        labels_path=str(folder / "torchmil" / "labels"),
        bag_names=names,
        bag_keys=["X", "Y"],
        read_file_fn=read,
        verbose=False,
    )
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=1, shuffle=True, num_workers=workers, collate_fn=collate_fn
    )
    model = ABMIL(in_shape=(WIDTH,), att_dim=ATT_DIM)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    trainer = Trainer(model, optimizer, device="cpu", disable_pbar=True, verbose=False)
    instances = sum(len(np.load(path, mmap_mode="r")) for path in dataset_files(folder, names))

    def epoch() -> int:
        trainer.train(1, loader, None)
        return instances

    return epoch


def dataset_files(folder: Path, names: list[str]) -> list[Path]:
    return [folder / "torchmil" / "features" / f"{name}.npy" for name in names]


def contestant(name: str, folder: Path, count: int, waits: dict[str, float]) -> Callable[[], int]:
    kind, _, option = name.partition(":")
    if kind == "milforge":
        return milforge(folder, int(option) if option else None, waits)
    if kind == "torchmil":
        return torchmil_epoch(folder, count, int(option))
    return {"h5py": read_raw, "loop": usual_loop, "products": products}[kind](folder, count)


def measure(name: str, folder: Path, count: int) -> dict[str, float]:
    waits: dict[str, float] = {}
    epoch = contestant(name, folder, count, waits)
    before = resident("VmRSS")
    start = perf_counter()
    instances = epoch()
    seconds = perf_counter() - start
    mb = resident("VmHWM") - before
    return {"rate": instances / seconds, "seconds": seconds, "mb": mb, "waiting": 0.0, **waits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", choices=("contiguous", "clam"), default="contiguous")
    parser.add_argument("--bags", type=int, default=200)
    parser.add_argument("--smallest", type=int, default=1000)
    parser.add_argument("--largest", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.only:
        print(json.dumps(measure(arguments.only, folder, arguments.bags)))
        return
    write_bags(folder, arguments.layout, arguments.bags, arguments.smallest, arguments.largest)
    split_files(folder, arguments.bags)
    labels = {
        "products": "the two products alone, of bags in memory",
        "h5py": "reading alone, `h5py`",
        "milforge": "MilForge, a bag per step",
        "milforge:50000": "MilForge, 50,000 instances per step",
        "loop": "the usual loop: `h5py`, a bag per step",
        "torchmil:0": "torchmil, a bag per step",
        "torchmil:2": "the same, 2 workers",
    }
    best: dict[str, dict[str, float]] = {}
    for _ in range(arguments.repeats):
        for name in labels:
            command = [sys.executable, __file__, str(folder), "--only", name]
            command += ["--bags", str(arguments.bags)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            if name not in best or found["rate"] > best[name]["rate"]:
                best[name] = found
    peer = max(best["torchmil:0"]["rate"], best["torchmil:2"]["rate"])
    print("| | instances a second | to the loop | to torchmil's best | waiting | epoch, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, label in labels.items():
        rate, seconds = best[name]["rate"], best[name]["seconds"]
        waiting = f"{best[name]['waiting'] / seconds:.1%}" if "milforge" in name else ""
        print(
            f"| {label} | {rate:,.0f} | {rate / best['loop']['rate']:.2f} | {rate / peer:.2f} | "
            f"{waiting} | {best[name]['mb']:.0f} |"
        )


if __name__ == "__main__":
    main()
