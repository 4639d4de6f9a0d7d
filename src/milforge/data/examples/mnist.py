"""Bags of MNIST digits."""

import socket
import warnings
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milforge.data.bag import Bag
from milforge.data.examples.digit_bags import Sampling, image_bag_splits
from milforge.data.examples.idx import read_idx
from milforge.data.parts import BagSplits

_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FILES = ", ".join((*_TRAIN, *_TEST))
_SIDE = 28
_LARGEST_PIXEL = 255
_OPENML_TRAIN = 60_000
_OPENML_TIMEOUT = 10.0  # seconds without an answer
# The images of a part are the same in every run: a seed varies the bags, not what is tested on.
_SPLIT_SEED = 0
_TRAIN_TO_VAL = 6  # one in six training images is held out: 10,000 of 60,000

Pool = tuple[NDArray[np.uint8], NDArray[np.integer]]


def mnist_bags(
    root: str | Path | None = None,
    *,
    train: int = 200,
    val: int = 100,
    test: int = 200,
    target: int | Sequence[int] = 9,
    mean_size: float = 10,
    sd_size: float = 2,
    sampling: Sampling = "balanced",
    seed: int = 0,
) -> BagSplits[Bag]:
    """Bags of MNIST digits, 28 by 28 pixels.

    Training and validation bags are drawn from 50,000 and 10,000 of the 60,000 training images,
    the same ones for every seed; test bags from the 10,000 test images.

    Args:
        root: folder with the four files of MNIST or of a data set in its format, plain or `.gz`:
            `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`,
            `t10k-labels-idx1-ubyte`. None fetches MNIST from OpenML once, and reads scikit-learn's
            copy of it later; the files of a folder are read much faster.
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        target: the digit that makes a bag positive (binary), or a list of digits, each of which is
            a label of its own (multilabel).
        mean_size: mean number of images in a bag.
        sd_size: standard deviation of that number; 0 for bags of one size.
        sampling: balanced (every second bag is positive) or plain (a uniform draw).
        seed: 0 or more; decides which bags are drawn.

    Raises:
        FileNotFoundError: where a file is missing, or OpenML cannot be reached.
        ValueError: where a file is damaged or holds something else, and for an option out of its
            range, as in `draw_bags`.
    """
    pools, brightest = mnist_pools(root)
    return image_bag_splits(
        pools,
        (train, val, test),
        scale=brightest,
        target=target,
        mean_size=mean_size,
        sd_size=sd_size,
        sampling=sampling,
        seed=seed,
    )


def mnist_pools(root: str | Path | None) -> tuple[list[Pool], int]:
    """The images that training, validation and test bags are drawn from, and the largest pixel.

    Args:
        root: folder of the files, as `mnist_bags` takes it.

    Returns:
        For train, val and test the images `(M, 28, 28)` uint8 and their digits `(M,)`; always the
        same ones. And 255.

    Raises:
        FileNotFoundError: where a file is missing, or OpenML cannot be reached.
        ValueError: where a file is damaged or holds something else.
    """
    if root is None:
        (images, labels), test_pool = _fetch_openml()
    else:
        images, labels = _read_pool(Path(root).expanduser(), _TRAIN)
        test_pool = _read_pool(Path(root).expanduser(), _TEST)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    held_out, kept = np.split(order, [len(order) // _TRAIN_TO_VAL])
    pools = [(images[kept], labels[kept]), (images[held_out], labels[held_out]), test_pool]
    return pools, _LARGEST_PIXEL


def _read_pool(root: Path, names: tuple[str, str]) -> Pool:
    images_file, labels_file = (_find(root, name) for name in names)
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise ValueError(
            f"{images_file}: expected images of shape (M, {_SIDE}, {_SIDE}), got {images.shape}: "
            "replace it by a file in the format of MNIST"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{labels_file}: expected {len(images)} labels, one per image of {images_file.name}, "
            f"got shape {labels.shape}: replace both by files of the same data set"
        )
    return images, labels


def _find(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{root / name}: expected this file or {name}.gz, found neither: give data.root=FOLDER "
        f"with the files {_FILES}, plain or .gz"
    )


def _fetch_openml() -> tuple[Pool, Pool]:
    from sklearn.datasets import fetch_openml

    timeout = socket.getdefaulttimeout()
    # scikit-learn sets none, and a firewall that drops packets would be waited on for minutes.
    socket.setdefaulttimeout(_OPENML_TIMEOUT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of attempts; the last one's error says it all
            mnist = fetch_openml("mnist_784", version=1, as_frame=False, n_retries=1)
    except (OSError, ValueError, HTTPException) as error:
        raise FileNotFoundError(
            f"MNIST could not be fetched from OpenML ({error}): give data.root=FOLDER with the "
            f"files {_FILES}, plain or .gz"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    images = mnist.data.astype(np.uint8).reshape(-1, _SIDE, _SIDE)
    labels = mnist.target.astype(np.int64)
    return (
        (images[:_OPENML_TRAIN], labels[:_OPENML_TRAIN]),
        (images[_OPENML_TRAIN:], labels[_OPENML_TRAIN:]),
    )
