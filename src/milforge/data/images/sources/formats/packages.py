"""Packages of the `slides` extra: what only some kinds of image and of map need."""

from importlib import import_module
from typing import Any


def require(name: str, purpose: str = "read this kind of image") -> Any:
    """A module of the `slides` extra, imported when a file first needs it.

    Args:
        name: of the module.
        purpose: what it is needed for.

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
            f"expected {name} to {purpose}, got none: pip install 'milforge[slides]'",
            name=name,
        ) from error
