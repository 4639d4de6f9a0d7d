"""The precision of what the networks see."""

import torch
from torch import Tensor


def single(x: Tensor) -> Tensor:
    """Half and double precision, as files have them, become that of the weights."""
    return x.to(torch.get_default_dtype()) if x.is_floating_point() else x
