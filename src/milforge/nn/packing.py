"""Padded and packed bags: every head computes on the packed form and accepts both."""

from typing import NamedTuple

import torch
from torch import Tensor


class Packed(NamedTuple):
    """Bags one below the other.

    Attributes:
        x: `(N, D)`, the instances.
        ptr: `(B + 1,)` int64, the bag boundaries.
        mask: `(B, M)` bool, where the instances stood in the padded form; None where the bags
            came packed.
    """

    x: Tensor
    ptr: Tensor
    mask: Tensor | None

    def restore(self, scores: Tensor) -> Tensor:
        """Scores `(N,)` in the form in which the bags came: padded ones with -inf, or as given."""
        if self.mask is None:
            return scores
        padded = scores.new_full(self.mask.shape, -torch.inf)
        return padded.masked_scatter(self.mask, scores)


def pack(X: Tensor, mask: Tensor | None = None, ptr: Tensor | None = None) -> Packed:
    """Brings the two accepted forms of a batch of bags into one.

    What stands in padded rows, NaN included, is dropped here and cannot leak.

    Args:
        X: `(B, M, D)` padded, or `(N, D)` packed.
        mask: `(B, M)` bool, True where there is an instance; padded form only. None: everywhere.
        ptr: `(B + 1,)` int64, the bag boundaries; packed form only.

    Raises:
        ValueError: where shapes, dtypes or devices do not fit. The values of `ptr` are checked
            on the CPU only, where that costs no synchronisation.
    """
    if not X.is_floating_point():
        raise ValueError(f"expected X of a floating dtype, got {X.dtype}; convert it by X.float()")
    if ptr is not None:
        return _packed(X, mask, ptr)
    if X.ndim != 3:
        raise ValueError(
            f"expected X of shape (bags, instances, features), or (instances, features) with "
            f"ptr=, got X of shape {tuple(X.shape)} and no ptr"
        )
    bags, longest, _ = X.shape
    if mask is None:
        bounds = torch.arange(bags + 1, device=X.device) * longest
        return Packed(X.flatten(0, 1), bounds, X.new_ones((bags, longest), dtype=torch.bool))
    if mask.dtype != torch.bool or mask.shape != X.shape[:2] or mask.device != X.device:
        raise ValueError(
            f"expected mask as bool of shape {tuple(X.shape[:2])} on {X.device}, got {mask.dtype} "
            f"of shape {tuple(mask.shape)} on {mask.device}"
        )
    sizes = mask.sum(1)
    return Packed(X[mask], torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), mask)


def _packed(X: Tensor, mask: Tensor | None, ptr: Tensor) -> Packed:
    if X.ndim != 2:
        raise ValueError(
            f"expected X of shape (instances, features) with ptr, got shape {tuple(X.shape)}"
        )
    if mask is not None:
        raise ValueError("expected mask for padded bags or ptr for packed ones, got both")
    if ptr.dtype != torch.int64 or ptr.ndim != 1 or len(ptr) < 1 or ptr.device != X.device:
        raise ValueError(
            f"expected ptr as int64 of shape (bags + 1,) on {X.device}, got {ptr.dtype} of shape "
            f"{tuple(ptr.shape)} on {ptr.device}"
        )
    if ptr.device.type == "cpu" and not torch.compiler.is_compiling():
        fits = ptr[0] == 0 and ptr[-1] == len(X) and bool((ptr.diff() >= 0).all())
        if not fits:
            raise ValueError(
                f"expected ptr to rise from 0 to {len(X)}, the number of instances, got "
                f"{ptr.tolist() if len(ptr) <= 10 else f'{int(ptr[0])} ... {int(ptr[-1])}'}"
            )
    return Packed(X, ptr, None)
