"""What is printed to a terminal that does not show every name."""

import io
import sys


def show_any_name() -> None:
    r"""Prints what the terminal, or the encoding of a file, cannot show by its number, as `\xe9`.

    Else a bag of such a name would end a command in the middle of what it prints.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
