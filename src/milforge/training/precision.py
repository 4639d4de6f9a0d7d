"""The precision of what the networks see."""

import torch
from torch import Tensor


def single(x: Tensor) -> Tensor:
    """Half and double precision, and whole numbers, become the precision of the weights."""
    return x.to(torch.get_default_dtype())


def single_view(x: Tensor) -> Tensor:
    """The same of views of large images, whose bytes the network itself makes numbers of."""
    return single(x) if x.is_floating_point() else x
