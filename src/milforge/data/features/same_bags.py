"""Which bags hold the same features: one slide under several names."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from milforge.data.faults import BagError
from milforge.data.features.readers import BagHeader, BagReader, Rows

_THREADS = 8
_MOST_NAMED = 5


def same_bags(reader: BagReader, headers: Mapping[str, BagHeader]) -> tuple[tuple[str, ...], ...]:
    """Groups of bags whose features are equal, byte by byte.

    Only bags of one size and width are looked at, of these the first and last instance, and where
    those agree all features. Bags that cannot be read are passed over.

    Args:
        reader: the bags.
        headers: what is known of each of them.

    Returns:
        The names of each group, which has at least two, sorted.
    """

    def digest(bag_id: str, rows: Rows | None) -> bytes | None:
        try:
            x = reader.read(bag_id, rows).x
        except BagError:
            return None
        sha = hashlib.sha256()
        for stream in [x] if isinstance(x, Tensor) else x.values():
            sha.update(f"{stream.dtype} {tuple(stream.shape)}".encode())
            sha.update(stream.contiguous().view(torch.uint8).numpy().data)
        return sha.digest()

    def ends(bag_id: str) -> bytes | None:
        return digest(bag_id, np.unique([0, headers[bag_id].instances - 1]))

    with ThreadPoolExecutor(_THREADS) as pool:

        def split(
            group: tuple[str, ...], by: Callable[[str], Hashable | None]
        ) -> list[tuple[str, ...]]:
            return _groups(zip(group, pool.map(by, group), strict=True))

        shapes = ((i, (each.instances, tuple(each.widths.items()))) for i, each in headers.items())
        alike = [part for group in _groups(shapes) for part in split(group, ends)]
        found = [part for group in alike for part in split(group, lambda i: digest(i, None))]
    return tuple(sorted(found))


def _groups(keys: Iterable[tuple[str, Hashable | None]]) -> list[tuple[str, ...]]:
    """The names that have one key, where there are several of them."""
    groups: dict[Hashable, list[str]] = {}
    for name, key in keys:
        if key is not None:
            groups.setdefault(key, []).append(name)
    return [tuple(sorted(names)) for names in groups.values() if len(names) > 1]


def describe_same(groups: tuple[tuple[str, ...], ...]) -> str:
    """The first groups of bags, and how many there are.

    Example:
        >>> describe_same((("a", "b"), ("c", "d", "e")))
        'a = b; c = d = e'
    """
    more = f"; and {len(groups) - _MOST_NAMED} more" if len(groups) > _MOST_NAMED else ""
    return "; ".join(" = ".join(group) for group in groups[:_MOST_NAMED]) + more
