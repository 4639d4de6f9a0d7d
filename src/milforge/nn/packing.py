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
        """Scores in the form in which the bags came.

        Args:
            scores: `(N,)` or `(N, K)`.

        Returns:
            As given, or, of padded bags, `(B, M)` or `(B, M, K)` with -inf where masked.
        """
        if self.mask is None:
            return scores
        padded = scores.new_full((*self.mask.shape, *scores.shape[1:]), -torch.inf)
        mask = self.mask if scores.ndim == 1 else self.mask[..., None]
        return padded.masked_scatter(mask, scores)


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


def check_instances(x: Tensor, parameter: Tensor, in_dim: int | None) -> None:
    """Checks that the instances `(N, D)` suit a head of this width that has this parameter.

    Raises:
        ValueError: where the device, the dtype (unless autocast will bring both to one) or the
            width differs. `in_dim` None: any width will do.
    """
    dtypes = {x.dtype, parameter.dtype}
    if x.device != parameter.device or (len(dtypes) > 1 and not _autocast(dtypes, x.device)):
        raise ValueError(
            f"expected X as {parameter.dtype} on {parameter.device} like the weights, got "
            f"{x.dtype} on {x.device}; move or convert one of them"
        )
    if in_dim is not None and x.shape[1] != in_dim:
        raise ValueError(f"expected instances of {in_dim} features (in_dim), got {x.shape[1]}")


def _autocast(dtypes: set[torch.dtype], device: torch.device) -> bool:
    """Whether autocast will bring them to one dtype; it leaves float64 alone."""
    return torch.is_autocast_enabled(device.type) and torch.float64 not in dtypes


def pack_adjacency(adj: Tensor, mask: Tensor | None = None) -> Tensor:
    """Adjacencies of padded bags as one block-diagonal matrix of the packed instances.

    Entries in padded rows and columns are dropped here and cannot leak. No gradient flows to the
    adjacency.

    Args:
        adj: `(B, M, M)`, dense or sparse COO.
        mask: `(B, M)` bool, True where there is an instance. None: everywhere.

    Returns:
        Sparse CSR `(N, N)`, with the instances in the order of `pack`.

    Raises:
        ValueError: where shape, layout, dtype or device do not fit.
    """
    plain = adj.layout == torch.strided
    coo = adj.layout == torch.sparse_coo and adj.sparse_dim() == adj.ndim
    square = adj.ndim == 3 and adj.shape[1] == adj.shape[2]
    if not square or not (plain or coo) or not adj.is_floating_point():
        raise ValueError(
            f"expected adj of floats and of shape (bags, instances, instances), dense or sparse "
            f"COO, got {adj.layout} of {adj.dtype}, shape {tuple(adj.shape)}"
        )
    if mask is not None and (mask.shape != adj.shape[:2] or mask.device != adj.device):
        raise ValueError(
            f"expected adj of shape {(*mask.shape, mask.shape[1])} on {mask.device} to go with "
            f"the bags, got {tuple(adj.shape)} on {adj.device}"
        )
    bags, longest, _ = adj.shape
    entries = adj.detach().coalesce() if coo else adj.detach().to_sparse()
    bag, row, column = entries.indices()
    row, column, values = bag * longest + row, bag * longest + column, entries.values()
    size = bags * longest
    if mask is not None:
        flat = mask.flatten()
        kept = flat[row] & flat[column]
        position = flat.cumsum(0) - 1
        row, column, values = position[row[kept]], position[column[kept]], values[kept]
        size = int(flat.sum())
    counts = torch.zeros(size, dtype=torch.int64, device=adj.device)
    counts.scatter_add_(0, row, torch.ones_like(row))
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return torch.sparse_csr_tensor(crow, column, values, (size, size), check_invariants=False)
