"""What a check of an audit found."""

from typing import Literal, NamedTuple

Level = Literal["fault", "warning", "fine", "unknown"]


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        level: `fault`, `warning`, `fine`, or `unknown` where it could not be checked.
        title: what was checked.
        text: what was found.
    """

    level: Level
    title: str
    text: str
