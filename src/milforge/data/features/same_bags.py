"""Which bags hold the same features: one slide under several names."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from milforge.data.bag import Bag, streams_of
from milforge.data.faults import BagError
from milforge.data.features.known_bags import KnownBags
from milforge.data.features.readers import BagHeader, BagReader, Rows

_THREADS = 8
_MOST_NAMED = 5


def same_bags(
    reader: BagReader, headers: Mapping[str, BagHeader], known: KnownBags | None = None
) -> tuple[tuple[str, ...], ...]:
    """Groups of bags whose features are equal, byte by byte.

    Only bags of one size and width are looked at, of these the first and last instance, and where
    those agree all features. Bags that cannot be read are passed over.

    Args:
        reader: the bags.
        headers: what is known of each of them.
        known: what is known of their files besides; takes up what is found. None: nothing.

    Returns:
        The names of each group, which has at least two, sorted.
    """
    known = KnownBags(reader) if known is None else known

    def ends(bag_id: str) -> str | None:
        state = reader.state(bag_id)
        found = known.of(state).get("ends")
        if found is None:
            found = _digest_of(reader, bag_id, ends_of(headers[bag_id].instances))
            if found is not None:
                known.learn(bag_id, state, {"ends": found})
        return found

    def whole(bag_id: str) -> str | None:
        state = reader.state(bag_id)
        found = known.of(state).get("whole")
        if found is None:
            found = _digest_of(reader, bag_id, None)
            if found is not None:
                known.learn(bag_id, state, {"whole": found})
        return found

    with ThreadPoolExecutor(_THREADS) as pool:

        def split(
            group: tuple[str, ...], by: Callable[[str], Hashable | None]
        ) -> list[tuple[str, ...]]:
            return _groups(zip(group, pool.map(by, group), strict=True))

        shapes = ((i, (each.instances, tuple(each.widths.items()))) for i, each in headers.items())
        alike = [part for group in _groups(shapes) for part in split(group, ends)]
        found = [part for group in alike for part in split(group, whole)]
    return tuple(sorted(found))


def ends_of(instances: int) -> Rows:
    """The numbers of the first and the last instance."""
    return np.unique([0, instances - 1])


def digest(bag: Bag, rows: Rows | None = None) -> str:
    """A digest of the features of a bag, or of the instances of those numbers."""
    sha = hashlib.sha256()
    for stream in streams_of(bag.x).values():
        some = stream if rows is None else stream[torch.from_numpy(rows)]
        sha.update(f"{some.dtype} {tuple(some.shape)}".encode())
        sha.update(some.contiguous().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _digest_of(reader: BagReader, bag_id: str, rows: Rows | None) -> str | None:
    try:
        return digest(reader.read(bag_id, rows, coords=False))
    except BagError:
        return None


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
