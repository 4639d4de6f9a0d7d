"""Values that nothing can be made of: a sentence, not the error that they happen to lead to."""

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import InstantiationException

from milforge.config.messages import WHERE

# Such values fail in ways of their own.
ODD = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    InstantiationException,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
)


@contextmanager
def odd_values(begins: str) -> Iterator[None]:
    """Turns errors of the body that no user was meant to see into a sentence.

    Args:
        begins: how it begins; what went wrong follows in brackets.

    Raises:
        ValueError: for such errors; others are left as they are.

    Example:
        >>> with odd_values("model: expected other values"):
        ...     {}["width"]
        Traceback (most recent call last):
        ValueError: model: expected other values (KeyError: 'width'); HYDRA_FULL_ERROR=1 shows where
    """
    try:
        yield
    except ODD as error:
        cause, *_ = str(error).splitlines() or [""]
        raise ValueError(f"{begins} ({type(error).__name__}: {cause:.300}); {WHERE}") from error
