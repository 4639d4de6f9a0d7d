"""Where the parts of bags lie in their files, found once and remembered."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from milforge.data.features.readers.arrays.array_file import StoredArray
from milforge.data.features.readers.arrays.places import Places, Stamp, has_settled, stamp_of
from milforge.data.features.readers.bag_check import OpenBag

Part = str  # features, coords or instance_labels
Found = Mapping[Part, tuple[Places, ...]]
_PARTS: dict[Part, Callable[[OpenBag], Iterable[StoredArray]]] = {
    "features": lambda bag: bag.features.values(),
    "coords": OpenBag.distinct_coords,
    "instance_labels": lambda bag: bag.instance_labels,
}


class BagPlaces:
    """Remembers where the parts of bags lie: a few KB per bag of 10,000 in chunks of one row.

    It is a guess what the next read finds: `Places.read` looks whether the file is still the same.

    Args:
        open_bag: opens the files of a bag and checks them.
    """

    def __init__(self, open_bag: Callable[[str], AbstractContextManager[OpenBag]]) -> None:
        self.open_bag = open_bag
        # Of each bag the parts looked for; None for one that the library must read.
        self._known: dict[str, dict[Part, tuple[Places, ...] | None]] = {}

    def of(self, bag_id: str, parts: Sequence[Part]) -> Found | None:
        """Where these parts lie; one that the bag does not have is in no place.

        Returns:
            None where the library must read one of them.

        Raises:
            BagError: where the bag is faulty.
        """
        known = self._known.get(bag_id, {})
        if any(part not in known for part in parts):
            with self.open_bag(bag_id) as opened:
                known = self.look(opened, parts)
        found = {part: places for part in parts if (places := known[part]) is not None}
        return found if len(found) == len(parts) else None

    def look(
        self, opened: OpenBag, parts: Sequence[Part] = tuple(_PARTS)
    ) -> dict[Part, tuple[Places, ...] | None]:
        """Finds where parts of an open bag lie that are not known yet, and remembers it."""
        known = self._known.get(opened.bag_id, {})
        wanted = [part for part in parts if part not in known]
        known = {**known, **{part: _places(_PARTS[part](opened), opened) for part in wanted}}
        stamps = {each.stamp for found in known.values() for each in found or ()}
        if all(map(has_settled, stamps)):
            self._known[opened.bag_id] = known
        return known

    def forget(self, bag_id: str) -> None:
        """Has the bag looked at again, whose files have changed."""
        self._known.pop(bag_id, None)

    def content(self, bag_id: str) -> tuple[Stamp, ...] | None:
        """What stands for the content of the parts that were looked for; None: not known."""
        known = self._known.get(bag_id)
        if not known:
            return None
        stamps: list[Stamp] = []
        for found in known.values():
            if found is None:
                return None
            stamps += [each.stamp for each in found]
        return tuple(stamps)


def _places(arrays: Iterable[StoredArray], opened: OpenBag) -> tuple[Places, ...] | None:
    found: list[Places] = []
    for array in arrays:
        # Of before it was opened: the file that is open may have been replaced by another since.
        before = opened.stamps.get(array.path)
        try:
            places = None if before is None else array.places(before)
            if places is None or stamp_of(array.path) != before:
                return None
        except OSError:
            return None
        found.append(places)
    return tuple(found)
