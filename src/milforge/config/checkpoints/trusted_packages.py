"""The packages that the person who types a command trusts."""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def trusted_packages(arguments: Sequence[str]) -> tuple[str, ...]:
    """The packages that the person who types a command trusts: `trust=my_package`, or a list.

    Raises:
        ValueError: for what is no name of a package.

    Example:
        >>> trusted_packages(["ckpt_path=a.ckpt", "trust=[mine,timm.models]"])
        ('mine', 'timm.models')
    """
    given = [each for each in arguments if each.partition("=")[0].lstrip("+") == "trust"]
    if not given:
        return ()
    try:
        value = OverridesParser.create().parse_override(given[-1]).value()
    except HydraException:
        value = given[-1]
    return checked_packages(value)


def checked_packages(value: Any) -> tuple[str, ...]:
    """One name of a package, several, or none, as several.

    Raises:
        ValueError: for what is no name of a package.
    """
    names = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    for name in names:
        if not re.fullmatch(r"\w+(\.\w+)*", str(name)):
            raise ValueError(
                f"expected trust as the name of a package or a list of them, got {value!r}: "
                "trust=my_package"
            )
    return tuple(map(str, names))
