"""What a run does beside its results, and does not end for."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def never_fatal(what: str) -> Iterator[None]:
    """Makes any error in the body a warning: a figure, or a tracker, costs no trained model.

    Args:
        what: begins the warning.

    Example:
        >>> with warnings.catch_warnings(record=True, action="always") as caught:
        ...     with never_fatal("not drawn"):
        ...         raise OSError("the disk is full")
        >>> str(caught[0].message)
        'not drawn: the disk is full'
    """
    try:
        yield
    except Exception as error:
        cause, *_ = str(error).splitlines() or [type(error).__name__]
        warnings.warn(f"{what}: {cause}", stacklevel=3)
