"""Where the chunks of a data set lie, read from the index in the HDF5 file itself.

h5py hands the chunks out one by one, 3 microseconds each: for chunks of one row, as CLAM and
TRIDENT write them, that is several times what it takes to read their values. Here NumPy reads whole
nodes of the index. Only the commonest kind is known, that of files whose superblock has version 0,
as h5py writes them unless it is asked for another: a B-tree of version 1. Of all else nothing is
said, and the library must be asked.

Source: HDF5 File Format Specification 3.0, sections II.A (superblock), III.A.1 (version 1 B-trees),
IV.A.1.a (version 1 object headers), IV.A.2.i (data layout) and IV.A.2.q (continuation).
"""

import math
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SUPERBLOCK = struct.Struct("<8sB4xBB9xQ")  # signature, version, bytes per offset and length, base
_EXPECTED = (b"\x89HDF\r\n\x1a\n", 0, 8, 8, 0)
_HEADER = struct.Struct("<BxHIi4x")  # version, number of messages, references, bytes of the first
_MESSAGE = struct.Struct("<HHB3x")  # type, bytes, flags
_CONTINUATION, _LAYOUT, _SHARED = 0x10, 0x08, 0x02
_RAW_CHUNKS = 1
# Half as many is K, which files of this superblock do not store.
_MOST_CHILDREN = 64
_MOST_LEVELS = 8
_NODES_AT_A_TIME = 256  # so that a damaged index takes little memory


class _NotAsExpected(Exception):
    """The file has another format, or is damaged."""


def read_chunk_index(
    file: int, header: int, chunk: Sequence[int], itemsize: int, count: int
) -> NDArray[np.int64] | None:
    """Where each chunk of a data set begins in the file, the chunks being of whole rows.

    Time and memory are bounded by the count, whatever the file holds.

    Args:
        file: descriptor of the file, open for reading.
        header: address of the object header of the data set.
        chunk: `(rows, ...)` shape of a chunk; all axes but the first are those of the data set.
        itemsize: bytes of a value.
        count: number of chunks, at least 1.

    Returns:
        `(count,)` addresses in the order of the rows. None where the file is of another format,
        is not exactly as expected, or lacks a chunk, and where a chunk went through a filter.
    """
    try:
        _expect(_SUPERBLOCK.unpack(_bytes(file, 0, _SUPERBLOCK.size)) == _EXPECTED)
        root = _find_root(file, header, (*chunk, itemsize))
        return _walk(file, root, chunk, itemsize, count)
    except _NotAsExpected:
        return None


def _expect(holds: bool | np.bool_) -> None:
    if not holds:
        raise _NotAsExpected


def _bytes(file: int, at: int, size: int) -> bytes:
    _expect(0 <= at < 2**62)
    found = os.pread(file, size, at)
    _expect(len(found) == size)
    return found


def _find_root(file: int, header: int, sizes: tuple[int, ...]) -> int:
    """Address of the root of the index, which the layout message of the object header says."""
    version, messages, _, size = _HEADER.unpack(_bytes(file, header, _HEADER.size))
    _expect(version == 1)
    blocks = [(header + _HEADER.size, size)]
    while blocks and messages:
        at, size = blocks.pop(0)
        end = at + size
        while at + _MESSAGE.size <= end and messages:
            kind, length, flags = _MESSAGE.unpack(_bytes(file, at, _MESSAGE.size))
            at, messages = at + _MESSAGE.size, messages - 1
            if kind == _CONTINUATION:
                blocks.append(struct.unpack("<qq", _bytes(file, at, 16)))
            elif kind == _LAYOUT:
                _expect(not flags & _SHARED)
                layout = struct.Struct(f"<BBBq{len(sizes)}I")
                *found, root = _in_order(layout.unpack(_bytes(file, at, layout.size)))
                _expect(found == [3, 2, len(sizes), *sizes])  # version 3, class 2: chunks
                return root
            at += length
    raise _NotAsExpected


def _in_order(layout: tuple[int, ...]) -> tuple[int, ...]:
    return (*layout[:3], *layout[4:], layout[3])


def _node(axes: int) -> np.dtype[np.void]:
    """A node of the index of a data set of so many axes.

    Each child follows its key, and a key that bounds them all is the last. For that it has a child
    here, which the file does not have.
    """
    child: list[Any] = [
        ("size", "<u4"),
        ("mask", "<u4"),
        ("first", "<i8", (axes + 1,)),
        ("address", "<i8"),
    ]
    head: list[Any] = [
        ("signature", "S4"),
        ("kind", "u1"),
        ("level", "u1"),
        ("used", "<u2"),
        ("", "V16"),
    ]
    return np.dtype([*head, ("children", child, (_MOST_CHILDREN + 1,))])


def _walk(
    file: int, root: int, chunk: Sequence[int], itemsize: int, count: int
) -> NDArray[np.int64]:
    """The addresses of all chunks, level by level.

    Of every key it is checked that a search would find by it what lies below.
    """
    node = _node(len(chunk))
    level = _bytes(file, root, 8)[5]
    _expect(level < _MOST_LEVELS)
    addresses, firsts = np.array([root]), np.zeros(1, np.int64)
    while True:
        children, used, bounds = _read_nodes(file, addresses, node, level, count)
        rows = children["first"][:, 0]
        _expect((rows[np.cumsum(used) - used] == firsts).all())
        _expect(not children["first"][:, 1:].any())
        last = np.append(firsts[1:], count * chunk[0]) - chunk[0]
        _expect((bounds >= 0).all() and not (bounds % (*chunk, itemsize)).any())
        beyond = (bounds[:, 0] == last) & bounds[:, 1:].any(axis=1)
        _expect((beyond | (bounds[:, 0] > last)).all())
        addresses, firsts = children["address"], rows
        if level == 0:
            break
        level -= 1
    size = math.prod(chunk) * itemsize
    _expect(len(rows) == count and (rows == np.arange(count) * chunk[0]).all())
    _expect((children["size"] == size).all() and not children["mask"].any())
    ordered = np.sort(addresses)
    _expect(ordered[0] >= 0 and ordered[-1] <= os.fstat(file).st_size - size)
    _expect((np.diff(ordered) >= size).all())  # none lies in another
    return addresses.astype(np.int64)


def _read_nodes(
    file: int, addresses: NDArray[np.int64], node: np.dtype[np.void], level: int, most: int
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64]]:
    """The children of all nodes of a level, how many each has, and the key that bounds them."""
    size = node.itemsize - 8
    children: list[NDArray[np.void]] = []
    used: list[NDArray[np.int64]] = []
    bounds: list[NDArray[np.int64]] = []
    for start in range(0, len(addresses), _NODES_AT_A_TIME):
        places = addresses[start : start + _NODES_AT_A_TIME].tolist()
        nodes = np.frombuffer(b"".join(_bytes(file, at, size) + bytes(8) for at in places), node)
        counts = nodes["used"].astype(np.int64)
        _expect((nodes["signature"] == b"TREE").all() and (nodes["kind"] == _RAW_CHUNKS).all())
        _expect((nodes["level"] == level).all() and (counts >= 1).all())
        most -= int(counts.sum())
        _expect((counts <= _MOST_CHILDREN).all() and most >= 0)
        children.append(nodes["children"][np.arange(_MOST_CHILDREN + 1) < counts[:, None]])
        used.append(counts)
        bounds.append(nodes["children"]["first"][np.arange(len(nodes)), counts])
    return np.concatenate(children), np.concatenate(used), np.concatenate(bounds)
