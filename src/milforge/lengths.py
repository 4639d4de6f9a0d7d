"""Lengths of scale bars."""

import math


def bar_length(longest: float) -> float:
    """The largest of 1, 2, 5, 10, ... and of their tenths, that is no longer.

    Example:
        >>> bar_length(37.0), bar_length(0.6)
        (20.0, 0.5)
    """
    decade = 10.0 ** math.floor(math.log10(longest))
    return decade * max(step for step in (1, 2, 5) if step * decade <= longest * (1 + 1e-9))


def in_words(length: float, unit: str) -> str:
    """A length with its unit; from 1,000 micrometres on in millimetres.

    Example:
        >>> in_words(500, "µm"), in_words(2000, "µm"), in_words(2000, "pixels")
        ('500 µm', '2 mm', '2,000 pixels')
    """
    if unit == "µm" and length >= 1000:
        return f"{length / 1000:,g} mm"
    return f"{length:,g} {unit}"
