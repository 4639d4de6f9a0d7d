"""Whether a split fits the data, and leaks nothing."""

from collections.abc import Hashable, Sequence
from itertools import combinations

from milforge.data.splits.draw import Split, twice


def check_split(split: Split, ids: Sequence[str], groups: Sequence[Hashable] | None = None) -> None:
    """Checks that a split fits the data and that nothing of it leaks from part to part.

    Args:
        split: the split; it need not use all bags.
        ids: names of the bags that there are.
        groups: the patient of each. None: each bag is a patient.

    Raises:
        ValueError: where a part names a bag twice or one that there is not, or a bag or a patient
            is in two parts. All faults are in the message, ten ids of each at most. Parts may be
            empty: what a command needs, it says itself.
    """
    parts: dict[str, tuple[str, ...]] = vars(split)
    faults: list[str] = []
    known = set(ids)
    for name, part in parts.items():
        faults += _fault(f"bags twice in {name}", twice(part))
        faults += _fault(f"bags of {name} that are not in the data", sorted(set(part) - known))
    patients = dict(zip(ids, groups, strict=True)) if groups is not None else {}
    for one, other in combinations(parts, 2):
        shared = set(parts[one]) & set(parts[other])
        faults += _fault(f"bags in both {one} and {other}", sorted(shared))
        sides = [
            {patients[bag] for bag in parts[name] if bag in patients and bag not in shared}
            for name in (one, other)
        ]
        patients_shared = sorted(map(str, sides[0] & sides[1]))
        faults += _fault(f"patients in both {one} and {other}", patients_shared)
    if faults:
        raise ValueError(
            f"expected a split into train, val and test without leaks, got {'; '.join(faults)}: "
            "correct the split file, or let the splits be drawn"
        )


def _fault(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return [f"{what}: {', '.join(names[:10])}{more}"]
