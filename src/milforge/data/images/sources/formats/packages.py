"""Packages that only some kinds of image need."""

from importlib import import_module
from typing import Any


def require(name: str) -> Any:
    """A module of the `slides` extra, imported when a file first needs it.

    Raises:
        ModuleNotFoundError: where it is not installed.

    Example:
        >>> require("no_such_reader")
        Traceback (most recent call last):
        ModuleNotFoundError: expected no_such_reader to read this kind of image, ...
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"expected {name} to read this kind of image, got none: pip install 'milforge[slides]'",
            name=name,
        ) from error
