"""Scikit-learn's digits as the tiles of a slide, or the slices of a scan.

The target digits of a positive bag lie side by side, as the cells of a tumour do, so what a tile
shows says something about its neighbours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from milforge.data.bag import Bag
from milforge.data.dataset import SPLITS
from milforge.data.examples.bags_in_memory import BagsInMemory
from milforge.data.examples.digit_bags import check_count
from milforge.data.examples.digits import LARGEST_PIXEL, digit_pools
from milforge.data.parts import BagSplits

Layout = Literal["grid", "chain"]
Mask = NDArray[np.bool_]

_STRIDE = 8  # pixels, the side of an image: tiles adjoin and do not overlap
_MAX_HOLES = 0.9
_NEIGHBOURHOOD = np.ones((3, 3), dtype=bool)


def digits_grid(
    *,
    layout: Layout = "grid",
    train: int = 200,
    val: int = 100,
    test: int = 200,
    target: int = 9,
    mean_side: float = 10,
    sd_side: float = 1,
    holes: float = 0.2,
    mean_blob: float = 8,
    sd_blob: float = 2,
    noise: float = 0.5,
    seed: int = 0,
) -> BagSplits[Bag]:
    """Bags of real digits, 8 by 8 pixels, laid out on a rectangle with holes.

    Every second bag is positive. It holds one blob: a connected set of tiles, each of which shows
    the target; all others show other digits. A negative bag shows no target. Where the tiles lie
    is drawn before all else, so it says nothing about the label. Images are drawn uniformly, with
    replacement, from those of the part, which are the parts of `digits_bags`: no image stands in
    two. Each tile has pixel noise of its own, the same whenever the bag is read.

    Bag i of a part depends on the seed and i alone: a longer part begins with the shorter one.

    A bag's `coords` `(N, 2)` int64 are the pixels `(x, y)` of its tiles on the canvas, multiples
    of 8; the tiles stand row by row. `y_inst` is 1 in the blob.

    Args:
        layout: grid (a rectangle, neighbours on 8 sides) or chain (one row of slices, of which
            neighbours are those next to each other in the order, however many are missing between).
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        target: the digit that the blob shows.
        mean_side: mean number of rows, and of columns, of the rectangle, from 2 on; of slices of
            a chain.
        sd_side: standard deviation of those numbers; 0 for rectangles of one size.
        holes: share of the tiles that are missing, from 0 to 0.9; at least 2 are left.
        mean_blob: mean number of tiles in a blob, from 1 on; see `draw_tiles` for its bounds.
        sd_blob: standard deviation of that number.
        noise: standard deviation of the Gaussian noise of a pixel, where images lie in [0, 1] and
            noisy ones are not clipped.
        seed: 0 or more; decides which bags are drawn.

    Raises:
        ValueError: for an argument out of its range.

    Example:
        >>> splits = digits_grid(train=4, val=2, test=2, mean_side=5, sd_side=0, holes=0)
        >>> bag = splits.train[1]
        >>> bag.y, bag.x.shape, bag.coords[[0, 1, 5]].tolist()
        (1, torch.Size([25, 1, 8, 8]), [[0, 0], [8, 0], [0, 8]])
    """
    counts = {"train": train, "val": val, "test": test}
    _check_at_least(1, counts)
    for name, count in counts.items():
        check_count(name, count)
    _check_at_least(2, {"mean_side": mean_side})
    _check_at_least(1, {"mean_blob": mean_blob})
    _check_at_least(0, {"sd_side": sd_side, "sd_blob": sd_blob, "noise": noise, "seed": seed})
    if layout not in get_args(Layout):
        raise ValueError(f"expected layout to be one of {get_args(Layout)}, got {layout!r}")
    if not 0 <= holes <= _MAX_HOLES:
        raise ValueError(f"expected holes to be a share from 0 to {_MAX_HOLES}, got {holes}")
    if target not in range(10):
        raise ValueError(f"expected target to be a digit from 0 to 9, got {target}")
    parts = {}
    for number, (name, (images, digits)) in enumerate(zip(SPLITS, digit_pools(), strict=True)):
        scaled: NDArray[np.float32] = np.divide(images, LARGEST_PIXEL, dtype=np.float32)
        hits, others = np.flatnonzero(digits == target), np.flatnonzero(digits != target)
        bags = []
        for index in range(counts[name]):
            # No two pairs of seed and part give the same stream.
            entropy = len(SPLITS) * seed + number
            rng = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(index,)))
            tiles, blob = draw_tiles(
                rng,
                # Alternating, because every shorter list must be balanced too.
                positive=index % 2 == 1,
                layout=layout,
                mean_side=mean_side,
                sd_side=sd_side,
                holes=holes,
                mean_blob=mean_blob,
                sd_blob=sd_blob,
            )
            shown = others[rng.integers(len(others), size=len(tiles))]
            shown[blob] = hits[rng.integers(len(hits), size=blob.sum())]
            x = scaled[shown]  # (N, 8, 8)
            x += np.float32(noise) * rng.standard_normal(x.shape, dtype=np.float32)
            bags.append((x, tiles[:, ::-1] * _STRIDE, blob))
        parts[name] = _TileBags(bags, name)
    return BagSplits(
        parts["train"], parts["val"], parts["test"], class_names=(f"no {target}", str(target))
    )


def draw_tiles(
    rng: np.random.Generator,
    *,
    positive: bool,
    layout: Layout,
    mean_side: float,
    sd_side: float,
    holes: float,
    mean_blob: float,
    sd_blob: float,
) -> tuple[NDArray[np.int64], Mask]:
    """Draws where the tiles of a bag lie and, if it is positive, which of them are its blob.

    A blob has `max(1, round(Normal(mean_blob, sd_blob)))` tiles, but at most half of the bag's, so
    that each positive bag has both kinds. It starts at a random tile of those components that hold
    so many, and grows by a random neighbour at a time; where no component does, it is the largest.

    Args:
        rng: where the numbers come from; the tiles are drawn before the blob.
        positive: whether there is a blob.
        layout: `grid` or `chain`, as in `digits_grid`.
        mean_side: mean number of rows and of columns.
        sd_side: standard deviation of those numbers.
        holes: share of the tiles that are missing.
        mean_blob: mean number of tiles in a blob.
        sd_blob: standard deviation of that number.

    Returns:
        `(N, 2)` row and column of each tile, row by row, and `(N,)` whether it is in the blob.
    """
    width = max(2, round(rng.normal(mean_side, sd_side)))
    height = max(2, round(rng.normal(mean_side, sd_side))) if layout == "grid" else 1
    draws = rng.random(height * width)
    present = draws >= holes
    present[draws.argsort()[-2:]] = True
    present = present.reshape(height, width)
    tiles = np.argwhere(present)
    if not positive:
        return tiles, np.zeros(len(tiles), dtype=bool)
    size = min(max(1, round(rng.normal(mean_blob, sd_blob))), len(tiles) // 2)
    if layout == "chain":
        # Neighbours are those next in order: as if nothing were missing between them.
        present = np.ones((1, len(tiles)), dtype=bool)
    return tiles, _grow_blob(rng, present, size)[present]


def _grow_blob(rng: np.random.Generator, present: Mask, size: int) -> Mask:
    """`(H, W)`, True on connected tiles, `size` of them or the largest component."""
    from scipy.ndimage import binary_dilation, label

    components, _ = label(present, structure=_NEIGHBOURHOOD)  # (H, W), 0 where a hole is
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    size = min(size, sizes.max())
    blob = np.zeros_like(present)
    candidates = (sizes >= size)[components]
    for _ in range(size):
        blob.flat[rng.choice(np.flatnonzero(candidates))] = True
        candidates = binary_dilation(blob, structure=_NEIGHBOURHOOD) & present & ~blob
    return blob


class _TileBags(BagsInMemory):
    """A `BagDataset` of tiles in memory, one bag below the other.

    Args:
        bags: for each bag the images `(N, 8, 8)` float32, the coords `(N, 2)` int64 and which
            tiles show the target, `(N,)` bool.
        name: begins the bag ids, `name_0000` and so on.
    """

    def __init__(
        self, bags: Sequence[tuple[NDArray[np.float32], NDArray[np.int64], Mask]], name: str
    ) -> None:
        x, coords, hits = zip(*bags, strict=True)
        labels = torch.tensor([int(bag.any()) for bag in hits])
        super().__init__([len(each) for each in x], labels, name)
        self._x = torch.from_numpy(np.concatenate(x))[:, None]  # (N, 1, 8, 8), all bags
        self._coords = torch.from_numpy(np.concatenate(coords))
        self._y_inst = torch.from_numpy(np.concatenate(hits)).to(torch.int64)

    def _bag(self, index: int, instances: slice, bag_id: str) -> Bag:
        return Bag(
            x=self._x[instances],
            y=int(self._labels[index]),
            coords=self._coords[instances],
            y_inst=self._y_inst[instances],
            bag_id=bag_id,
        )


def _check_at_least(lowest: int, given: Mapping[str, float]) -> None:
    for name, value in given.items():
        if not lowest <= value < math.inf:
            raise ValueError(f"expected {name} of at least {lowest}, got {value}")
