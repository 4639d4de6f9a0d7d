"""Where to look: cells drawn from an attention map."""

import torch
from torch import Tensor


def sample_locations(
    attention: Tensor,
    n: int,
    *,
    replace: bool = False,
    use_logits: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws n cells of each attention map.

    Without replacement the cells are the n largest of `log a - log E` with `E ~ Exp(1)`, largest
    first, which draws one cell after the other from those that are left in proportion to `a`
    (Plackett-Luce, by the exponential race). With replacement they come from the inverse of the
    cumulative sum. Both are done in float64: in less, the smallest `E` of a large map tie, and its
    cumulative sum loses small cells. Where fewer than n cells of a saturated map have a
    probability above 0, any others make up the number: they weigh nothing.

    Args:
        attention: `(B, h, w)` float, not negative; it need not sum to 1. Or scores with
            `use_logits`, where -inf marks a cell of probability 0.
        n: cells to be drawn of each map.
        replace: whether a cell may be drawn again.
        use_logits: whether `attention` holds scores, to be put through a softmax.
        generator: source of the random numbers, on any device: they are drawn where it lives.
            None: the global one of the map's device.

    Returns:
        `indices` `(B, n, 2)` int64, row and column, in the order drawn, and `probabilities`
        `(B, n)` of at least float32: what `attention_probabilities` gives these cells, with its
        gradient.

    Raises:
        ValueError: for a map of the wrong rank or dtype, n below 1, and without replacement n
            above `h * w`. Also, for maps in host memory only, as a GPU would have to be waited for:
            negative, infinite, NaN or all-zero maps.

    Example:
        >>> attention = torch.tensor([[[0.0, 0.25], [0.75, 0.0]]])
        >>> indices, probabilities = sample_locations(attention, 2)
        >>> sorted(indices[0].tolist()), probabilities.sum()
        ([[0, 1], [1, 0]], tensor(1.))
    """
    check_map(attention, n, replace=replace)
    _check_values(attention.detach(), use_logits)
    probabilities = attention_probabilities(attention, use_logits=use_logits).flatten(1)
    known = probabilities.detach().double()
    if replace:
        cells = _inverse_cdf(known, n, generator)
    else:
        # From scores, not from their softmax: that underflows where the scores still differ.
        keys = attention.detach().flatten(1).double() if use_logits else known.log()
        cells = _race(keys, n, generator)
    return as_indices(cells, attention.shape[2]), probabilities.gather(1, cells)


def attention_probabilities(attention: Tensor, *, use_logits: bool = False) -> Tensor:
    """Attention maps as probabilities, in float32 or more: each divided by its sum, or softmax.

    Args:
        attention: `(B, h, w)` float, not negative, or scores with `use_logits`.
        use_logits: whether `attention` holds scores.

    Returns:
        `(B, h, w)`, each map with a sum of 1.

    Example:
        >>> attention_probabilities(torch.tensor([[[1.0, 3.0]]]))
        tensor([[[0.2500, 0.7500]]])
    """
    flat = attention.to(torch.promote_types(attention.dtype, torch.float32)).flatten(1)
    flat = flat.softmax(1) if use_logits else flat / flat.sum(1, keepdim=True)
    return flat.reshape(attention.shape)


def top_locations(attention: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n most probable cells of each map, most probable first: no chance in it.

    Args:
        attention: `(B, h, w)` float, not negative.
        n: cells to be taken of each map.

    Returns:
        As `sample_locations`.

    Raises:
        ValueError: for a map of the wrong rank or dtype, n below 1 or above `h * w`, and in host
            memory for negative, infinite, NaN or all-zero maps.

    Example:
        >>> top_locations(torch.tensor([[[1.0, 3.0], [0.0, 4.0]]]), 2)
        (tensor([[[1, 1],
                 [0, 1]]]), tensor([[0.5000, 0.3750]]))
    """
    check_map(attention, n)
    _check_values(attention.detach())
    probabilities, cells = attention_probabilities(attention).flatten(1).topk(n)
    return as_indices(cells, attention.shape[2]), probabilities


def as_indices(cells: Tensor, columns: int) -> Tensor:
    """Row and column, `(..., 2)`, of cells counted row by row."""
    return torch.stack([cells // columns, cells % columns], dim=-1)


def check_map(attention: Tensor, n: int, *, replace: bool = False) -> None:
    """Checks what can be known without reading the map.

    Raises:
        ValueError: as `sample_locations`, but for the values.
    """
    if attention.ndim != 3 or not attention.is_floating_point():
        raise ValueError(
            "expected attention maps of shape (B, h, w), float and without a channel dimension, "
            f"got {attention.dtype} of shape {tuple(attention.shape)}"
        )
    _, h, w = attention.shape
    if n < 1:
        raise ValueError(f"expected at least 1 patch to be drawn, got {n}")
    if not replace and n > h * w:
        raise ValueError(
            f"expected at most {h * w} patches, the cells of an attention map of {h} x {w}, got "
            f"{n}: draw fewer, or with replacement"
        )


def _check_values(attention: Tensor, use_logits: bool = False) -> None:
    if attention.device.type != "cpu":
        return  # a GPU would have to be waited for
    if use_logits:
        if attention.isnan().any() or attention.isposinf().any():
            raise ValueError("expected attention scores below infinity, got a map with NaN or inf")
        if (attention.flatten(1).amax(1).isneginf()).any():
            raise ValueError(
                "expected attention scores above -inf somewhere in each map, got a map of nothing "
                "but -inf"
            )
        return
    # The smallest and the largest hold every NaN and infinity, and are found in one pass.
    least, most = attention.flatten(1).aminmax(dim=1)
    if not (least >= 0).all() or not most.isfinite().all():
        raise ValueError(
            "expected finite attention of at least 0, got a map with NaN, infinite or negative "
            "values: scores are taken by sample_locations with use_logits=True"
        )
    if not (most > 0).all():
        raise ValueError("expected attention above 0 somewhere in each map, got a map of zeros")


def _race(keys: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """The first n of the exponential race with rates `exp(keys)`, `(B, n)`, in order."""
    device = keys.device if generator is None else generator.device
    # torch.exponential_ would cost four times as much.
    uniform = torch.rand(keys.shape, dtype=torch.float64, device=device, generator=generator)
    times = uniform.to(keys.device).neg_().log1p_().neg_()
    # A time of 0 would be infinitely early, in a cell that is never to be drawn a NaN.
    return (keys - times.clamp_(min=torch.finfo(torch.float64).tiny).log_()).topk(n).indices


def _inverse_cdf(probabilities: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Cells `(B, n)`, each the first whose cumulative sum exceeds a uniform number."""
    device = probabilities.device if generator is None else generator.device
    uniform = torch.rand(
        len(probabilities), n, dtype=torch.float64, device=device, generator=generator
    ).to(probabilities.device)
    cdf = probabilities.cumsum(1)
    cells = torch.searchsorted(cdf, uniform * cdf[:, -1:], right=True)
    return cells.clamp_(max=cdf.shape[1] - 1)  # the product may round up to the whole sum
