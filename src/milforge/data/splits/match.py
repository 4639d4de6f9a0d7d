"""Names of bags in split files, as tools change them."""

from collections.abc import Iterable, Sequence

from milforge.data.features.readers.layouts.layout import bag_id_of
from milforge.data.features.tables import whole_id


def match_ids(names: Iterable[str], ids: Sequence[str]) -> tuple[str, ...]:
    """The bags that names of a split file mean.

    Taken is the first that is a bag: the name itself; without spaces around it; without the
    suffixes of slides and files; and as a whole number, as `1020.0` is how pandas writes 1020 in
    columns of unequal length. Names of no bag stay as they are, for `check_split` to tell.

    Args:
        names: from the file.
        ids: names of the bags that there are.

    Example:
        >>> match_ids(["a.svs", " b", "1020.0", "z.h5"], ["a", "b", "1020"])
        ('a', 'b', '1020', 'z.h5')
    """
    known = set(ids)

    def match(name: str) -> str:
        bare = bag_id_of(name.strip())
        return next(
            (each for each in (name, name.strip(), bare, whole_id(bare)) if each in known), name
        )

    return tuple(map(match, names))
