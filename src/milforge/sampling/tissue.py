"""Where the tissue of a slide is: no patch need be looked at that lies on glass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milforge.sampling.placement import Placement
from milforge.sampling.source import ImageSource

# Of the pixels of a view; fewer with a colour may be a label that was burnt into a grey image.
_COLOURED = 1e-3
# What a map has where all that it may have has underflowed; far below what a float32 rounds off.
_LEAST_ATTENTION = 1e-30


@dataclass(frozen=True)
class Tissue:
    """What counts as tissue, and how much of it a patch must hold to be looked at.

    Args:
        least: share of the area of a patch, above 0 and at most 1.
        brightness: as `tissue_mask` takes it.
        colour: as `tissue_mask` takes it.

    Raises:
        ValueError: for a value out of its range.
    """

    least: float = 0.05
    brightness: float = 0.8
    colour: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise ValueError(
                f"expected tissue.least above 0 and at most 1, got {self.least}: tissue=null lets "
                "patches lie anywhere"
            )
        for name in ("brightness", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"expected tissue.{name} from 0 to 1, as channels are, got "
                    f"{getattr(self, name)}"
                )

    def __call__(self, views: Tensor) -> Tensor | None:
        """The `tissue_mask` of views `(B, C, H, W)`; None for views that can have no glass."""
        if views.shape[1] != 3:
            return None
        return tissue_mask(views, self.brightness, self.colour)


def tissue_mask(views: Tensor, brightness: float = 0.8, colour: float = 0.05) -> Tensor:
    """Which pixels of low-resolution views are not glass.

    Glass is bright and has no colour: each channel is at least `brightness`, and the largest is at
    most `colour` above the least. That is known of stained slides alone. So an image has no glass,
    and all of it counts, if it has not three channels, or if less than 1 pixel in 1,000 has a
    colour, as in radiographs that are stored as RGB. What is dark is never glass.

    Args:
        views: `(B, C, H, W)` float from 0 to 1.
        brightness: from 0 to 1.
        colour: from 0 to 1. What scanners make of glass is mostly below 0.02.

    Returns:
        `(B, H, W)` bool.

    Example:
        >>> glass, pink, black = [0.95, 0.95, 0.94], [0.9, 0.7, 0.8], [0.0, 0.0, 0.0]
        >>> tissue_mask(torch.tensor([[glass, pink, black], [glass, glass, black]]).mT[:, :, None])
        tensor([[[False,  True,  True]],
        <BLANKLINE>
                [[ True,  True,  True]]])
    """
    batch, channels, height, width = views.shape
    if channels != 3:
        return views.new_ones((batch, height, width), dtype=torch.bool)
    least, most = views.aminmax(dim=1)
    coloured = most - least > colour
    stained = coloured.flatten(1).double().mean(1) >= _COLOURED
    return coloured | (least < brightness) | ~stained[:, None, None]


def tissue_shares(
    mask: Tensor, corners: tuple[Tensor, Tensor], size: tuple[float, float]
) -> Tensor:
    """The share of tissue in each window of a grid, by area.

    Args:
        mask: `(H, W)` bool, of the pixels of a view.
        corners: `(h,)` and `(w,)` float64, the upper edges of the rows of windows and the left
            edges of their columns, in pixels of the view.
        size: height and width of a window in pixels of the view; parts of pixels count.

    Returns:
        `(h, w)` float64 from 0 to 1; outside of the view there is no tissue.

    Example:
        >>> mask = torch.tensor([[True, False, False]])
        >>> left = torch.tensor([-0.5, 0.5, 2.0]).double()
        >>> tissue_shares(mask, (torch.zeros(1).double(), left), (1.0, 1.0))
        tensor([[0.5000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    down = _integrals(mask.double(), corners[0], size[0])  # (h, W)
    return _integrals(down.T, corners[1], size[1]).T / (size[0] * size[1])


def tissue_cells(
    mask: Tensor,
    map_size: tuple[int, int],
    x_low: Tensor,
    x_high: Tensor | Sequence[ImageSource],
    placement: Placement,
    least: float,
) -> Tensor:
    """The cells of attention maps whose patches hold enough tissue.

    Args:
        mask: `(B, H, W)` bool, which pixels of the views are tissue.
        map_size: height and width of the maps.
        x_low: `(B, C, H, W)`, the views; only their size counts.
        x_high: the images, as `Placement.offsets` takes them; only their sizes count.
        placement: how the patches lie.
        least: share of the area of a patch, above 0.

    Returns:
        `(B, h, w)` bool; for an image without such a cell all of them.

    Raises:
        ValueError: as `Placement.offsets`.
    """
    h, w = map_size
    steps = torch.arange(max(h, w))
    # Rows and columns of the grid are placed independently of each other.
    diagonal = torch.stack([steps.clamp(max=h - 1), steps.clamp(max=w - 1)], dim=1)
    corners = placement.offsets(diagonal.expand(len(mask), -1, -1), map_size, x_low, x_high).cpu()
    cells = []
    for b, window in enumerate(placement.windows(x_high)):
        high = x_high.shape[2:] if isinstance(x_high, Tensor) else x_high[b].shape[1:]
        down, across = (low / full for low, full in zip(x_low.shape[2:], high, strict=True))
        edges = corners[b, :h, 0].double() * down, corners[b, :w, 1].double() * across
        shares = tissue_shares(mask[b], edges, (window[0] * down, window[1] * across))
        enough = shares >= least
        cells.append(enough | ~enough.any())
    return torch.stack(cells)


def masked_attention(attention: Tensor, allowed: Tensor) -> Tensor:
    """Attention maps without what may not be looked at.

    `a_i / sum a_j` over the cells that are allowed, 0 elsewhere: probabilities, of which draws,
    estimators and the exact expectation are those of a map that has no other cells. Where more are
    drawn than are allowed, the others weigh nothing. A map of which all cells are allowed, or none,
    is left as it is, and one that is no attention, for `sample_locations` to refuse.

    Args:
        attention: `(B, h, w)` float, not negative.
        allowed: `(B, h, w)` bool.

    Returns:
        `(B, h, w)`, of at least float32.

    Example:
        >>> allowed = torch.tensor([[[True, False], [True, False]]])
        >>> masked_attention(torch.tensor([[[0.1, 0.6], [0.3, 0.0]]]), allowed)
        tensor([[[0.2500, 0.0000],
                 [0.7500, 0.0000]]])
    """
    whole = attention.to(torch.promote_types(attention.dtype, torch.float32))
    flat, kept = whole.flatten(1), allowed.flatten(1)
    some = kept.any(1) & ~kept.all(1) & (flat.detach().amax(1) > 0)
    inside = torch.where(kept, flat + _LEAST_ATTENTION, 0)
    # Of the others a sum could be 0, and the gradient NaN.
    total = inside.sum(1, keepdim=True).where(some[:, None], 1)
    return torch.where(some[:, None], inside / total, flat).reshape(attention.shape)


def _integrals(x: Tensor, first: Tensor, length: float) -> Tensor:
    """Along the first axis of x `(n, m)`, constant within each row: the integrals `(k, m)`."""
    total = torch.cat([x.new_zeros(1, x.shape[1]), x.cumsum(0)])

    def until(end: Tensor) -> Tensor:
        end = end.to(x.device).clamp(0, len(x))
        row = end.floor().long().clamp(max=len(x) - 1)
        return total[row] + (end - row)[:, None] * x[row]

    return until(first + length) - until(first)
