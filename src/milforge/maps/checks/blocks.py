"""Tiles in square blocks, to be taken out of a bag together."""

import numpy as np
from numpy.typing import NDArray

from milforge.maps.kinds import Floats

MOST = 256  # blocks: as often a bag is predicted anew


def blocks_of(corners: Floats, side: float, most: int = MOST) -> NDArray[np.int64]:
    """The number `(N,)` of the block of each tile, from 0 on.

    A block is as many tiles wide and high as it takes to have no more than so many blocks; of few
    tiles each is a block of its own.

    Args:
        corners: `(N, 2)`.
        side: of a tile.
        most: how many blocks at most.

    Example:
        >>> corners = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
        >>> blocks_of(corners, 1.0, most=2).tolist()
        [0, 0, 1, 1]
    """
    if len(corners) <= most:
        return np.arange(len(corners))
    start = corners.min(axis=0)
    wide = 1
    while True:
        places = np.floor((corners - start) / (side * wide) + 1e-6).astype(np.int64)
        _, numbers = np.unique(places, axis=0, return_inverse=True)
        if numbers.max() < most:
            found: NDArray[np.int64] = numbers.reshape(-1)
            return found
        wide += max(1, wide // 4)
