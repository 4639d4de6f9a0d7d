"""Seeds of what is drawn at random, each from what it belongs to."""

from hashlib import blake2b


def draw_seed(key: str) -> int:
    """A number from 0 to 2^63 - 1 that depends on the key alone.

    Random numbers that are drawn from such a seed depend neither on what was drawn before nor, if
    the key does not, on the process: a run that goes on draws what it would have drawn.

    Example:
        >>> draw_seed("0 1 slide 7") == draw_seed("0 1 slide 7")
        True
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 1
