"""The IDX format, in which MNIST and its relatives are published."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, plain or compressed with gzip.

    The format is two zero bytes, one for the type (0x08: unsigned byte), one for the number of
    dimensions, each dimension as a big-endian 32-bit integer, then the values.

    Args:
        path: the file; whether it is compressed is read from its first bytes, not from its name.

    Returns:
        uint8, of the shape that the file gives.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is not IDX of unsigned bytes, or is not whole.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an IDX file, found none: check the path")
    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path}: expected a whole gzip file, got a truncated or damaged one "
                f"({error}): download it again"
            ) from error
    return _parse(content, path)


def _parse(content: bytes, path: Path) -> NDArray[np.uint8]:
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise ValueError(
            f"{path}: expected an IDX file of unsigned bytes, which starts with 00 00 08, got "
            f"{content[:4].hex(' ') or 'an empty file'}: download it again, or check that it is "
            "the right file"
        )
    ndim = content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(
            f"{path}: expected {ndim} dimensions in {start} bytes of header, got {len(content)} "
            "bytes: the file is truncated, download it again"
        )
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    expected, got = math.prod(shape), len(content) - start
    if got != expected:
        fault = "is truncated" if got < expected else "has trailing bytes"
        raise ValueError(
            f"{path}: expected {expected} values for the shape {shape}, got {got}: the file "
            f"{fault}, download it again"
        )
    # A copy, because an array over bytes is read-only and torch warns of those.
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
