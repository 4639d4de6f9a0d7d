"""Digits lost on large canvases, of which most agree (Katharopoulos and Fleuret 2019)."""

from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.dataset import SPLITS
from milforge.data.examples.canvas import Canvas
from milforge.data.examples.digit_bags import check_count
from milforge.data.examples.digits import LARGEST_PIXEL, digit_pools
from milforge.data.examples.mnist import mnist_pools
from milforge.data.images.large_image import LargeImage
from milforge.data.parts import BagSplits

CLASSES = 10
# Tries to find a free place for a glyph before all are placed again, and how often they are.
_TRIES = 1000
_LAYOUTS = 100
# Images that are enlarged at once: thousands of floats each.
_CHUNK = 1000

Pool = tuple[NDArray[np.uint8], NDArray[np.integer]]


def megapixel(
    source: Literal["digits", "mnist"] = "digits",
    root: str | Path | None = None,
    *,
    train: int = 2000,
    val: int = 500,
    test: int = 1000,
    size: int = 1500,
    low_size: int = 180,
    digit_size: int = 28,
    digits: int = 5,
    agree: int = 3,
    noise: int = 50,
    seed: int = 0,
) -> BagSplits[LargeImage]:
    """Large black images with a few digits, some of which agree: their class is the label.

    The other digits are of other classes, each of a class of its own, and strokes as bright as
    digits lie between them. Nothing overlaps. The sizes are those of the paper
    (arXiv:1905.03711), whose images are made of MNIST.

    Images of digits for training, validation and test are disjoint, and the same for every seed.
    Image i of a part depends on `(seed, i)` alone. Each is made when it is asked for and held as
    its glyphs: the canvas may be of any size.

    Args:
        source: `digits`, scikit-learn's 8 x 8 images, or `mnist`.
        root: folder of the MNIST files, see `mnist_bags`.
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        size: height and width of the canvas in pixels.
        low_size: height and width of its low-resolution view.
        digit_size: height and width of a digit on the canvas.
        digits: number of digits on a canvas.
        agree: how many of them are of the class to be named; at least 2.
        noise: number of strokes.
        seed: 0 or more; of the canvases.

    Raises:
        ValueError: for numbers out of their range, a canvas too small for what it is to hold, or
            images that lack a digit.
        FileNotFoundError: where MNIST is not to be had.

    Example:
        >>> splits = megapixel(train=10, val=10, test=10, size=300, low_size=60, noise=5)
        >>> image = splits.train[3]
        >>> image.low.shape, image.high.shape, image.y, splits.train.labels[3]
        (torch.Size([1, 60, 60]), (1, 300, 300), 3, tensor(3))
    """
    if source not in ("digits", "mnist"):
        raise ValueError(f"expected data.source to be digits or mnist, got {source!r}")
    if source == "digits" and root is not None:
        raise ValueError(f"expected no data.root for the digits, got {root!r}")
    others = digits - agree
    if not 2 <= agree <= digits or others >= CLASSES:
        raise ValueError(
            f"expected data.agree from 2 to data.digits, and at most {CLASSES - 1} other digits, "
            f"got agree={agree} and digits={digits}"
        )
    if not 1 <= low_size <= size or digit_size < 2 or noise < 0 or seed < 0:
        raise ValueError(
            "expected data.low_size from 1 to data.size, data.digit_size of at least 2, data.noise "
            f"and data.seed of at least 0, got low_size={low_size}, size={size}, "
            f"digit_size={digit_size}, noise={noise} and seed={seed}"
        )
    for name, count in zip(SPLITS, (train, val, test), strict=True):
        if count < 1:
            raise ValueError(f"expected data.{name} of at least 1 image, got {count}")
        check_count(f"data.{name}", count)
    if (digits + noise) * digit_size**2 > size**2 / 4:
        raise ValueError(
            f"expected a canvas of which {digits} digits and {noise} strokes of {digit_size} x "
            f"{digit_size} pixels cover at most a quarter, got {size} x {size}: raise data.size"
        )
    if source == "digits":
        pools, brightest = cast(list[Pool], digit_pools()), LARGEST_PIXEL
    else:
        pools, brightest = mnist_pools(root)
    parts = (
        MegapixelImages(
            _enlarged(images, brightest, digit_size),
            labels,
            count,
            size=size,
            low_size=low_size,
            digits=digits,
            agree=agree,
            noise=noise,
            seed=(seed, part),
            name=name,
        )
        for part, ((images, labels), count, name) in enumerate(
            zip(pools, (train, val, test), SPLITS, strict=True)
        )
    )
    train_part, val_part, test_part = parts
    names = tuple(map(str, range(CLASSES)))
    return BagSplits(train_part, val_part, test_part, names)


class MegapixelImages:
    """Canvases of one part of the data set; see `megapixel`.

    Args:
        images: `(M, s, s)` uint8, the digits at the size at which they are placed.
        image_labels: `(M,)`, their classes.
        count: number of canvases.
        size: height and width of the canvas in pixels.
        low_size: height and width of its low-resolution view.
        digits: number of digits on a canvas.
        agree: how many of them are of the class to be named.
        noise: number of strokes.
        seed: seed of the canvases.
        name: begins their names.

    Attributes:
        labels: `(count,)` int64; the classes take turns.

    Raises:
        ValueError: where there is no image of some class.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        image_labels: NDArray[np.integer],
        count: int,
        *,
        size: int,
        low_size: int,
        digits: int,
        agree: int,
        noise: int,
        seed: tuple[int, int],
        name: str,
    ) -> None:
        self.images = images
        self.by_class = [np.flatnonzero(image_labels == c) for c in range(CLASSES)]
        absent = [c for c, numbers in enumerate(self.by_class) if not len(numbers)]
        if absent:
            raise ValueError(f"{name}: expected images of the digits 0 to 9, got none of {absent}")
        self.labels: Tensor = torch.arange(count) % CLASSES
        self.size = size
        self.low_size = low_size
        self.digits = digits
        self.agree = agree
        self.noise = noise
        self.seed = seed
        self.name = name

    def __len__(self) -> int:
        """Number of canvases."""
        return len(self.labels)

    def __getitem__(self, index: int) -> LargeImage:
        """The canvas of that number, its view, and its label."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        canvas = self.canvas(index)
        low = canvas.low((self.low_size, self.low_size))
        return LargeImage(low, canvas, int(self.labels[index]), canvas.name)

    def canvas(self, index: int) -> Canvas:
        """The canvas alone: the digits come first among its glyphs, the agreeing ones foremost."""
        rng = np.random.default_rng((*self.seed, index))
        label = int(self.labels[index])
        others = rng.permutation(np.delete(np.arange(CLASSES), label))
        classes = [*[label] * self.agree, *others[: self.digits - self.agree]]
        glyphs = [self.images[rng.choice(self.by_class[c])] for c in classes]
        side = self.images.shape[1]
        glyphs += list(_strokes(rng, self.noise, side))
        places = _free_places(rng, len(glyphs), side, self.size)
        return Canvas((self.size, self.size), glyphs, places, f"{self.name}_{index}")


def _free_places(rng: np.random.Generator, count: int, side: int, size: int) -> NDArray[np.int64]:
    """Corners `(count, 2)` of squares that do not overlap, one uniform draw after the other.

    Where the first ones leave no room for the last, all are placed again.
    """
    for _ in range(_LAYOUTS):
        places = np.empty((count, 2), np.int64)
        if all(_place(rng, places[: i + 1], side, size) for i in range(count)):
            return places
    raise ValueError(f"found no place for {count} squares of {side} pixels on {size}")


def _place(rng: np.random.Generator, places: NDArray[np.int64], side: int, size: int) -> bool:
    """Sets the last place to one that is free of the others, if one is found."""
    for _ in range(_TRIES):
        places[-1] = rng.integers(0, size - side + 1, 2)
        if not (np.abs(places[:-1] - places[-1]) < side).all(1).any():
            return True
    return False


def _strokes(rng: np.random.Generator, count: int, side: int) -> NDArray[np.uint8]:
    """Straight lines about as thick and as bright as those of digits, `(count, side, side)`."""
    low, high = np.array([[0, 0.04, 0.25], [np.pi, 0.08, 0.45]])
    angle, thickness, half = rng.uniform(low, high, (count, 3)).T[..., None, None]
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    sin, cos, half = np.sin(angle), np.cos(angle), half * side
    position = np.clip(y * sin + x * cos, -half, half)
    distance = np.hypot(y - position * sin, x - position * cos)
    strokes: NDArray[np.uint8] = (255 * (thickness * side + 0.5 - distance).clip(0, 1)).astype(
        np.uint8
    )
    return strokes


def _enlarged(images: NDArray[np.uint8], brightest: int, side: int) -> NDArray[np.uint8]:
    """Images `(M, side, side)` uint8, of a brightness up to 255."""
    enlarged = np.empty((len(images), side, side), np.uint8)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        scaled = torch.from_numpy(images[part])[:, None].float() * (255 / brightest)
        if images.shape[1] != side:
            scaled = torch.nn.functional.interpolate(
                scaled, (side, side), mode="bicubic", align_corners=False, antialias=True
            )
        enlarged[part] = scaled[:, 0].round().clamp(0, 255).to(torch.uint8).numpy()
    return enlarged
