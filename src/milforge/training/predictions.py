"""What an evaluation or prediction step tells of the bags of a batch."""

from typing import NotRequired, TypedDict

from torch import Tensor


class BagPredictions(TypedDict):
    """All on the CPU.

    Attributes:
        probabilities: `(B,)` of the positive class (binary), else `(B, C)`.
        sizes: `(B,)` int64, instances of each bag: `N` in all.
        scores: `(N,)` attention scores; missing where the pooling has none.
        weights: `(N,)` attention weights; likewise.
        y_inst: `(N,)` instance labels, -1 where unknown; missing where there are none.
        coords: `(N, 2)` or `(N, 3)`; missing where there are none.
    """

    probabilities: Tensor
    sizes: Tensor
    scores: NotRequired[Tensor]
    weights: NotRequired[Tensor]
    y_inst: NotRequired[Tensor]
    coords: NotRequired[Tensor]


class ImagePredictions(BagPredictions):
    """Of large images: the instances are the patches that were looked at.

    Attributes:
        attention: `(B, h, w)` probabilities.
        offsets: `(B, n, 2)` int64, row and column of the upper left corner of each patch.
        patches: `(B, n, C, ph, pw)`.
    """

    attention: Tensor
    offsets: Tensor
    patches: Tensor
