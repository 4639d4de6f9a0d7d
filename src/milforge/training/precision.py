"""The precision of what the networks see."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from milforge.data import BagBatch, ImageBatch


def single(x: Tensor) -> Tensor:
    """Half and double precision, and whole numbers, become the precision of the weights."""
    return x.to(torch.get_default_dtype())


def single_view(x: Tensor) -> Tensor:
    """The same of views of large images, whose bytes the network itself makes numbers of."""
    return single(x) if x.is_floating_point() else x


def single_batch(
    batch: BagBatch | ImageBatch, standardise: nn.Module | None
) -> BagBatch | ImageBatch:
    """The same of all that a network sees of a batch.

    Args:
        batch: bags, or large images, whose patches follow their views.
        standardise: what is done to the features of bags before; None: nothing.
    """
    if isinstance(batch, ImageBatch):
        return replace(batch, x_low=single_view(batch.x_low))
    x = batch.x if standardise is None else standardise(batch.x)
    if isinstance(x, Tensor):
        return replace(batch, x=single(x))
    return replace(batch, x={name: single(each) for name, each in x.items()})
