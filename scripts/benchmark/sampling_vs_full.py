"""Attention sampling against the full attention map: accuracy, time and memory against n.

    milforge-train experiment=megapixel_digits logger=csv
    OMP_NUM_THREADS=1 python scripts/benchmark/sampling_vs_full.py RUN/checkpoints/best.ckpt

Classifies the test images of a checkpoint's data with its weights, as `milforge-evaluate` would
with `model.inference=...` and `model.n_patches=...`: from n sampled patches, from the n most
probable ones, and from all cells of the attention map, so many patches at a time as the checkpoint
was trained with. What is sampled depends on the name of an image alone, so that the accuracy of
another run is the same.

The images are made beforehand; a time is that of the forward passes over all of them, the least of
the repetitions, taking turns, after one that is not counted. Memory is what the first batch adds,
at its peak, to what the process held with the images and the network in place; each in a process of
its own (Linux only).
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import torch
from _common import least_times, peak_of
from omegaconf import OmegaConf

from milforge.api.build import make_data
from milforge.api.learning import make_learning
from milforge.api.trained.members import make_member, stored_task
from milforge.config.checkpoints.checkpoint_config import load_checkpoint
from milforge.data import ImageBatch, collate_images
from milforge.training import MILModule

COUNTS = (1, 2, 4, 6, 10, 20, 50)


def load(path: str, images: int | None) -> tuple[MILModule, list[ImageBatch]]:
    """The trained module and batches of the first test images of its data.

    Raises:
        ValueError: where it is no checkpoint of attention sampling.
    """
    checkpoint = load_checkpoint(path)
    config = OmegaConf.create(checkpoint["milforge"]["config"])
    data = make_data(config, task=stored_task(config, checkpoint["milforge"]))
    if data.batch_type is not ImageBatch:
        raise ValueError(
            f"ckpt_path: {path} was trained on bags, expected attention sampling of large images: "
            "give a checkpoint of experiment=megapixel_digits"
        )
    learning = make_learning(config, data.task, data.labels("test"))
    module = make_member(path, checkpoint, config, data, learning)
    test, loader = data.parts["test"], data.loader
    size = loader.eval_batch_size or loader.batch_size
    total = len(test) if images is None else min(images, len(test))
    batches = [
        collate_images([test[i] for i in range(start, min(start + size, total))])
        for start in range(0, total, size)
    ]
    return module.eval(), [module.prepared(batch) for batch in batches]


@torch.inference_mode()
def classify(module: MILModule, batches: Sequence[ImageBatch], inference: str, count: int) -> float:
    """Share of the images that are classified rightly."""
    module.network.sampling.inference = inference
    module.network.sampling.n_patches = count
    right = 0
    for batch in batches:
        logits = module(batch).logits
        predicted = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)
        right += int((predicted == batch.y).sum())
    return right / sum(map(len, batches))


def print_table(options: argparse.Namespace) -> None:
    """Accuracy, time and memory of each way."""
    module, batches = load(options.checkpoint, options.images)
    trained = module.network.sampling.n_patches
    with torch.inference_mode():
        height, width = module(batches[0]).attention.shape[1:]
    cases = [(way, n) for way in ("sample", "topk") for n in options.counts]
    cases.append(("full", trained))
    accuracy: dict[tuple[str, int], float] = {}

    def contestant(case: tuple[str, int]) -> Callable[[], None]:
        def run() -> None:
            accuracy[case] = classify(module, batches, *case)

        return run

    images = sum(map(len, batches))
    print(
        f"torch {torch.__version__}, {options.threads} threads, {os.cpu_count()} cores; {images} "
        f"images, {len(batches[0])} a batch, trained with n = {trained}, map of {height} x "
        f"{width}; least of {options.repeats} interleaved repetitions\n"
    )
    times = least_times({case: contestant(case) for case in cases}, options.repeats)
    print("| inference | n | accuracy | seconds | ms an image | MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        way, n = case
        shown = n if way != "full" else f"{height * width} (all)"
        taken = times[case].wall
        print(
            f"| {way} | {shown} | {accuracy[case]:.3f} | {taken / 1e3:.2f} | "
            f"{taken / images:.2f} | {memory_of(options, way, n):.0f} |",
            flush=True,
        )


def memory_of(options: argparse.Namespace, way: str, n: int) -> float:
    """MB that a batch adds, measured in a fresh process."""
    command = [sys.executable, __file__, options.checkpoint, "--threads", str(options.threads)]
    command += ["--images", str(options.images)] if options.images else []
    command += ["--memory", way, str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def measure_memory(path: str, images: int | None, way: str, n: int) -> None:
    """Prints the MB that a batch adds. For a process of its own."""
    classify(*load(path, 1), "sample", 1)  # loads the libraries
    module, batches = load(path, images)
    print(peak_of(lambda: classify(module, batches[:1], way, n))[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="of experiment=megapixel_digits")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument("--images", type=int, help="so many test images; all of them if left out")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        if options.memory:
            way, n = options.memory
            measure_memory(options.checkpoint, options.images, way, int(n))
        else:
            print_table(options)
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
