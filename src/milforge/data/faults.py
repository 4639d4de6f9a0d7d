"""What is wrong with bags on disk, each fault named with its file and its remedy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_LISTED = 20


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Args:
        bag_id: the bag it concerns, empty where it concerns none.
        file: the file to look at.
        message: what was expected and what was found.
        remedy: what to do about it.

    Example:
        >>> print(Fault("a", "a.h5", "expected instances, got an empty bag", "remove the file"))
        a.h5: expected instances, got an empty bag: remove the file
    """

    bag_id: str
    file: str | Path
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}: {self.remedy}"


class BagError(ValueError):
    """A bag that cannot be read as it is.

    Args:
        message: the sentence for the user.
        faults: what is wrong. Empty where the error comes from a worker process of a DataLoader,
            which hands on the message alone.
    """

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[type["BagError"], tuple[str, tuple[Fault, ...]]]:
        return type(self), (str(self), self.faults)


def bag_error(faults: Iterable[Fault]) -> BagError:
    """The error that lists those faults, of which there is at least one."""
    faults = list(faults)
    return BagError("; ".join(map(str, faults)), faults)


def list_faults(what: str, faults: Sequence[Fault]) -> str:
    """The first 20 faults, one per line, and the number of the rest.

    Example:
        >>> print(list_faults("labels.csv", [Fault("a", "a.h5", "expected x, got y", "mend it")]))
        labels.csv: 1 fault
          a.h5: expected x, got y: mend it
    """
    number = f"{len(faults)} fault" + ("s" if len(faults) > 1 else "")
    lines = [f"{what}: {number}", *(f"  {fault}" for fault in faults[:_MOST_LISTED])]
    if len(faults) > _MOST_LISTED:
        lines.append(f"  and {len(faults) - _MOST_LISTED} more")
    return "\n".join(lines)


def in_its_table(bag_id: str, place: str | None) -> str:
    """A bag, and where it stands in its table.

    Example:
        >>> in_its_table("s1", "row 3"), in_its_table("s1", "bag 's1'"), in_its_table("s1", None)
        ("row 3, bag 's1'", "bag 's1'", "bag 's1'")
    """
    bag = f"bag {bag_id!r}"
    return bag if place in (None, bag) else f"{place}, {bag}"
