"""The index of chunks as NumPy reads it from the file is the one that the library reads."""

import os
import struct
from contextlib import ExitStack
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milforge.data.features.readers.arrays import hdf5
from milforge.data.features.readers.arrays.array_file import open_arrays
from milforge.data.features.readers.arrays.chunk_index import read_chunk_index
from milforge.data.features.readers.arrays.places import stamp_of

KEY = 8 + 8 * 3  # bytes of a key of a data set of two axes
HEADER, CHILD = 24, KEY + 8  # of a node
OVERWRITTEN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def by_library(dataset):
    """The addresses of all chunks in the order of their rows; None where one is missing."""
    found = []
    dataset.id.chunk_iter(found.append)
    count = -(-dataset.shape[0] // dataset.chunks[0])
    return [each.byte_offset for each in sorted(found)] if len(found) == count else None


def by_index(path, dataset, count=None):
    file = os.open(path, os.O_RDONLY)
    try:
        found = read_chunk_index(
            file,
            h5py.h5g.get_objinfo(dataset.id).objno[0],
            dataset.chunks,
            dataset.dtype.itemsize,
            -(-dataset.shape[0] // dataset.chunks[0]) if count is None else count,
        )
    finally:
        os.close(file)
    return None if found is None else found.tolist()


@OVERWRITTEN
@given(st.data())
def test_any_layout_gives_what_the_library_gives(tmp_path, data):
    """Of files as h5py writes them unless it is asked for others, the index can be read."""
    draw = data.draw
    path = tmp_path / "a.h5"
    rest = draw(st.lists(st.integers(1, 4), max_size=2))
    rows = draw(st.sampled_from([1, 1, 7, 64]))
    number = draw(st.integers(1, 300)) * rows - draw(st.integers(0, rows - 1))
    dtype = draw(st.sampled_from(["f2", "f4", "f8", "i8"]))
    pieces = sorted({number, *draw(st.lists(st.integers(1, number), max_size=4))})
    version = draw(st.sampled_from([None, "earliest", "earliest", "latest"]))
    written = draw(st.sampled_from(["all", "all", "all", "part", "backwards", "grown", "shrunk"]))
    names = [f"set {each}" for each in range(draw(st.integers(1, 3)))]
    with h5py.File(path, "w", libver=version) as file:
        for name in names:
            shape = (0, *rest)
            file.create_dataset(name, shape, dtype, chunks=(rows, *rest), maxshape=(None, *rest))
            for each in range(draw(st.integers(0, 12))):
                file[name].attrs[f"attribute {each}"] = np.arange(each)
        for start, stop in zip([0, *pieces], pieces, strict=False):
            for name in names:
                file[name].resize(stop, axis=0)
                if written != "backwards" and (written != "part" or start == 0):
                    file[name][start:stop] = 1
        for start in reversed(range(0, number, rows)) if written == "backwards" else ():
            for name in names:
                file[name][start : start + rows] = 1
        if written in ("grown", "shrunk"):
            file[names[0]].resize(max(1, number + (3 if written == "grown" else -3)), axis=0)
    with h5py.File(path) as file:
        for name in names:
            wanted = by_library(file[name])
            assert by_index(path, file[name]) == (None if version == "latest" else wanted)


def test_an_index_of_three_levels(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("features", (0, 2), "f2", chunks=(1, 2), maxshape=(None, 2))
        for stop in range(1000, 5001, 1000):
            data.resize(stop, axis=0)
            data[stop - 1000 :] = 1
    with h5py.File(tmp_path / "a.h5") as file:
        assert by_index(tmp_path / "a.h5", file["features"]) == by_library(file["features"])


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Bytes of a file of 300 rows and as many chunks, and where its parts lie."""
    path = tmp_path_factory.mktemp("sound") / "a.h5"
    with h5py.File(path, "w") as file:
        for name in ("features", "other"):
            data = file.create_dataset(name, (300, 4), "f4", chunks=(1, 4), maxshape=(None, 4))
            data[:] = np.arange(1200).reshape(300, 4) + 0.5
    with h5py.File(path) as file:
        header = h5py.h5g.get_objinfo(file["features"].id).objno[0]
        wanted = by_library(file["features"])
    raw = path.read_bytes()
    layout = raw.index(struct.pack("<BBB", 3, 2, 3), header)
    (root,) = struct.unpack_from("<q", raw, layout + 3)
    assert raw[root : root + 6] == b"TREE\x01\x01"
    (used,) = struct.unpack_from("<H", raw, root + 6)
    leaves = [
        struct.unpack_from("<q", raw, root + HEADER + each * CHILD + KEY)[0] for each in range(used)
    ]
    return SimpleNamespace(
        raw=raw, header=header, layout=layout, root=root, leaves=leaves, used=used, wanted=wanted
    )


def read_spoilt(tmp_path, sound, raw, chunk=(1, 4), count=300):
    path = tmp_path / "spoilt.h5"
    path.write_bytes(raw)
    file = os.open(path, os.O_RDONLY)
    try:
        found = read_chunk_index(file, sound.header, chunk, 4, count)
    finally:
        os.close(file)
    return None if found is None else found.tolist()


# Where, of which part, and what is written there.
SPOILT = {
    "signature of the file": ("file", 0, "<B", 0),
    "version of the superblock": ("file", 8, "<B", 1),
    "bytes of an offset": ("file", 13, "<B", 4),
    "bytes of a length": ("file", 14, "<B", 4),
    "base address": ("file", 24, "<q", 512),
    "version of the object header": ("header", 0, "<B", 2),
    "no messages": ("header", 2, "<H", 0),
    "no bytes of messages": ("header", 8, "<I", 0),
    "shared layout": ("layout", -4, "<B", 2),
    "version of the layout": ("layout", 0, "<B", 4),
    "class of the layout": ("layout", 1, "<B", 1),
    "axes of the layout": ("layout", 2, "<B", 2),
    "root nowhere": ("layout", 3, "<q", -1),
    "root behind the file": ("layout", 3, "<q", 1 << 40),
    "root behind everything": ("layout", 3, "<Q", (1 << 63) - 1),
    "rows of a chunk": ("layout", 11, "<I", 2),
    "columns of a chunk": ("layout", 15, "<I", 5),
    "bytes of a value": ("layout", 19, "<I", 8),
    "signature of the root": ("root", 0, "<B", 0),
    "kind of the root": ("root", 4, "<B", 0),
    "level of the root": ("root", 5, "<B", 2),
    "far too many levels": ("root", 5, "<B", 255),
    "signature of a leaf": ("leaf", 0, "<B", 0),
    "kind of a leaf": ("leaf", 4, "<B", 0),
    "level of a leaf": ("leaf", 5, "<B", 1),
    "leaf of nothing": ("leaf", 6, "<H", 0),
    "last leaf of nothing": ("last leaf", 6, "<H", 0),
    "root of nothing": ("root", 6, "<H", 0),
    "leaf of too few": ("leaf", 6, "<H", 3),
    "leaf of too many": ("leaf", 6, "<H", 65),
    "leaf of far too many": ("leaf", 6, "<H", 65535),
    "root of too many": ("root", 6, "<H", 65),
    "key of a leaf that leads elsewhere": ("root", HEADER + CHILD + 8, "<q", 1),
    "leaf nowhere": ("root", HEADER + KEY, "<q", -1),
    "leaf behind the file": ("root", HEADER + KEY, "<q", 1 << 40),
    "root in itself": ("root", HEADER + KEY, "<q", "root"),
    "one leaf twice": ("root", HEADER + CHILD + KEY, "<q", "leaf"),
    "size of a chunk": ("leaf", HEADER + CHILD, "<I", 8),
    "filter of a chunk": ("leaf", HEADER + CHILD + 4, "<I", 1),
    "one row twice": ("leaf", HEADER + CHILD + 8, "<q", 0),
    "column of a chunk": ("leaf", HEADER + CHILD + 16, "<q", 4),
    "byte of a chunk": ("leaf", HEADER + CHILD + 24, "<q", 4),
    "chunk nowhere": ("leaf", HEADER + CHILD + KEY, "<q", -1),
    "chunk behind the file": ("leaf", HEADER + CHILD + KEY, "<q", 1 << 40),
    "chunk in the middle of another": ("leaf", HEADER + CHILD + KEY, "<q", "chunk"),
    "bound of a leaf": ("bound of the leaf", 8, "<q", 1),
    "bound of the root": ("bound of the root", 8, "<q", 298),
    "bound of the root at the last row": ("bound of the root", 16, "<qq", (0, 0)),
    "bound of the root in a chunk": ("bound of the root", 16, "<q", 5),
    "bound of the root below nothing": ("bound of the root", 16, "<q", -4),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_not_exactly_as_expected_is_not_read(tmp_path, sound, what):
    part, offset, form, value = SPOILT[what]
    leaf = sound.leaves[0]
    (in_leaf,) = struct.unpack_from("<H", sound.raw, leaf + 6)
    base = {
        "file": 0,
        "header": sound.header,
        "layout": sound.layout,
        "root": sound.root,
        "leaf": leaf,
        "last leaf": sound.leaves[-1],
        "bound of the leaf": leaf + HEADER + in_leaf * CHILD,
        "bound of the root": sound.root + HEADER + sound.used * CHILD,
    }[part]
    value = {"root": sound.root, "leaf": leaf, "chunk": sound.wanted[0] + 8}.get(value, value)
    raw = bytearray(sound.raw)
    assert read_spoilt(tmp_path, sound, raw) == sound.wanted
    struct.pack_into(form, raw, base + offset, *np.atleast_1d(value).tolist())
    assert raw != sound.raw
    assert read_spoilt(tmp_path, sound, raw) is None


def test_another_count_or_chunk_than_the_index_has_is_not_read(tmp_path, sound):
    for count in (1, 299, 301, 1 << 40):
        assert read_spoilt(tmp_path, sound, sound.raw, count=count) is None
    for chunk in ((2, 4), (1, 5), (1,), (1, 4, 1)):
        assert read_spoilt(tmp_path, sound, sound.raw, chunk=chunk) is None


def test_a_chunk_that_is_missing_below_right_bounds_is_seen(tmp_path, sound):
    raw = bytearray(sound.raw)
    for node, used in ((sound.root, sound.used), (last := sound.leaves[-1], None)):
        used = struct.unpack_from("<H", raw, last + 6)[0] if used is None else used
        struct.pack_into("<q", raw, node + HEADER + used * CHILD + 8, 1 << 40)
    assert read_spoilt(tmp_path, sound, raw) == sound.wanted
    for count in (301, 1 << 30):
        assert read_spoilt(tmp_path, sound, raw, count=count) is None


def test_no_more_nodes_are_read_than_there_can_be(tmp_path, sound, monkeypatch):
    pread, sizes = os.pread, []
    monkeypatch.setattr(os, "pread", lambda *given: (sizes.append(given[1]), pread(*given))[1])
    assert read_spoilt(tmp_path, sound, sound.raw, count=sound.used - 1) is None
    assert sum(size > 1000 for size in sizes) == 1


@pytest.mark.parametrize(("levels", "read"), [(1, True), (6, True), (7, False), (60, False)])
def test_an_index_has_few_levels(tmp_path, sound, levels, read):
    raw = bytearray(sound.raw)
    bound = sound.root + HEADER + sound.used * CHILD
    first, last = raw[sound.root + HEADER :][:KEY], raw[bound:][:KEY]
    top = sound.root
    for level in range(2, levels + 2):
        node = struct.pack("<4sBBHqq", b"TREE", 1, level, 1, -1, -1) + first
        node += struct.pack("<q", top) + last
        top = len(raw)
        raw += node.ljust(HEADER + 64 * CHILD + KEY, b"\0")
    struct.pack_into("<q", raw, sound.layout + 3, top)
    assert read_spoilt(tmp_path, sound, raw) == (sound.wanted if read else None)


def test_a_file_that_was_cut_is_not_read(tmp_path, sound):
    parts = [sound.header, sound.layout, sound.root, *sound.leaves, max(sound.wanted)]
    for stop in [0, 10, *(part + more for part in parts for more in (1, 12))]:
        assert read_spoilt(tmp_path, sound, sound.raw[:stop]) is None


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_layout_may_stand_in_another_block_of_the_object_header(tmp_path, sound, blocks):
    """As the library reads it too, whose file this remains."""
    raw, path = bytearray(sound.raw), tmp_path / "a.h5"
    at = sound.layout - 8
    length = 8 + struct.unpack_from("<H", raw, at + 2)[0]
    message = bytes(raw[at : at + length])
    for block in range(blocks):
        end = len(raw)
        raw[at : at + length] = struct.pack("<HHB3xqq", 0x10, length - 8, 0, end, length).ljust(
            length, b"\0"
        )
        raw += message if block == blocks - 1 else bytes(length)
        at = end
    (messages,) = struct.unpack_from("<H", raw, sound.header + 2)
    struct.pack_into("<H", raw, sound.header + 2, messages + blocks)
    struct.pack_into("<q", raw, 40, len(raw))  # the end of the file, as the superblock has it
    path.write_bytes(raw)
    with h5py.File(path) as file:
        assert by_library(file["features"]) == sound.wanted
        assert by_index(path, file["features"]) == sound.wanted


def test_blocks_of_an_object_header_that_lead_to_themselves_end(tmp_path, sound):
    raw = bytearray(sound.raw)
    (size,) = struct.unpack_from("<I", raw, sound.header + 8)
    block = struct.pack("<qq", sound.header + 16, size)
    raw[sound.header + 16 : sound.header + 40] = struct.pack("<HHB3x", 0x10, 16, 0) + block
    struct.pack_into("<H", raw, sound.layout - 8, 0)  # no layout any more
    struct.pack_into("<H", raw, sound.header + 2, 65535)
    assert read_spoilt(tmp_path, sound, raw) is None


def write_rows(path, number):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("features", (number, 3), "f4", chunks=(1, 3), maxshape=(None, 3))
        data[:] = np.random.default_rng(0).standard_normal((number, 3))
        return data[()]


def read_places(path):
    """The values from the places that are found for them."""
    with open_arrays(path) as arrays:
        found = arrays["features"].places(stamp_of(path))
    if found is None:
        return None
    out = np.empty(found.shape, found.dtype)
    return out if found.read(out) else None


@pytest.mark.parametrize(("number", "asked"), [(99, 1), (100, 0)])
def test_the_library_is_asked_for_few_chunks_alone(tmp_path, monkeypatch, number, asked):
    values = write_rows(tmp_path / "a.h5", number)
    ask, calls = hdf5._ask_starts, []
    monkeypatch.setattr(hdf5, "_ask_starts", lambda *given: (calls.append(1), ask(*given))[1])
    assert read_places(tmp_path / "a.h5").tobytes() == values.tobytes()
    assert len(calls) == asked


@pytest.mark.parametrize("wrong", [0, 100, 199])
def test_an_index_with_which_the_library_disagrees_is_not_believed(tmp_path, monkeypatch, wrong):
    values = write_rows(tmp_path / "a.h5", 200)

    def other(*given):
        starts = read_chunk_index(*given)
        starts[wrong] = starts[50]
        return starts

    monkeypatch.setattr(hdf5, "read_chunk_index", other)
    assert read_places(tmp_path / "a.h5").tobytes() == values.tobytes()


def test_equal_rows_are_told_apart_by_where_they_lie(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    write_rows(path, 200)
    with h5py.File(path, "r+") as file:
        file["features"][:] = 1
    monkeypatch.setattr(hdf5, "read_chunk_index", lambda *given: read_chunk_index(*given)[::-1])
    with h5py.File(path) as file:
        assert hdf5._read_starts(path, stamp_of(path), file["features"], 200) is None


def test_the_index_of_another_file_is_not_read(tmp_path):
    path = tmp_path / "a.h5"
    write_rows(path, 200)
    with h5py.File(path) as file:
        stamp = stamp_of(path)
        assert hdf5._read_starts(path, stamp, file["features"], 200) is not None
        os.utime(path, (1, 1))
        assert hdf5._read_starts(path, stamp, file["features"], 200) is None


def test_chunks_that_the_file_has_no_room_for_are_not_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (1 << 40, 3), "f4", chunks=(1, 3))[7] = 1
    for name in ("_read_starts", "_ask_starts"):
        monkeypatch.setattr(hdf5, name, None)
    assert read_places(path) is None


def of_chunks(chunk_iter):
    """A data set of five chunks of a row, of which the library says that."""
    ids = SimpleNamespace(chunk_iter=chunk_iter)
    return SimpleNamespace(id=ids, chunks=(1, 3), dtype=np.dtype("f4"))


def test_chunks_without_end_are_not_waited_for():
    asked = []

    def chunk_iter(keep):
        while keep(((0, 0), 0, 100, 12)) is None:
            asked.append(1)

    assert hdf5._ask_starts(of_chunks(chunk_iter), 5) is None
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (((4, 0), 0, 160, 12), True),
        (((5, 0), 0, 160, 12), False),  # behind the last
        (((3, 0), 0, 160, 12), False),  # twice
        (((4, 0), 1, 160, 12), False),  # not filtered as the others
        (((4, 0), 0, 160, 10), False),  # of another size
    ],
)
def test_the_library_must_name_every_chunk_as_it_is(last, found):
    chunks = [((row, 0), 0, 100 + 12 * row, 12) for row in range(4)] + [last]
    starts = hdf5._ask_starts(of_chunks(lambda keep: [keep(each) for each in chunks]), 5)
    assert (starts is not None) == found
    assert not found or starts.tolist() == [100, 112, 124, 136, 160]


def spoil(raw, rng):
    """A file cut somewhere, or with other bits: anywhere, in a node or in the object header."""
    raw = bytearray(raw)
    how = rng.integers(4)
    if how == 0:
        return raw[: rng.integers(1, len(raw))]
    nodes = [at for at in range(0, len(raw), 8) if raw[at : at + 4] == b"TREE"]
    first, length = [(0, len(raw)), (rng.choice(nodes), 2600), (0, 1200)][how - 1]
    for at in (first + rng.integers(length, size=rng.integers(1, 4))).tolist():
        raw[min(at, len(raw) - 1)] ^= 1 << int(rng.integers(8))
    return raw


def asked(ask):
    try:
        return ask()
    except (OSError, RuntimeError, ValueError):
        return "an error"


def test_a_spoilt_file_gives_what_the_library_gives_or_nothing(tmp_path):
    path, same = tmp_path / "a.h5", 0
    write_rows(path, 300)
    sound = path.read_bytes()
    for seed in range(120):
        raw = spoil(sound, np.random.default_rng(seed))
        path.write_bytes(raw)
        with ExitStack() as stack:
            try:
                data = stack.enter_context(h5py.File(path))["features"]
                shape, chunks, _ = data.shape, data.chunks, data.dtype
            except (OSError, RuntimeError, KeyError, ValueError, TypeError):
                continue  # the library itself does not read it
            if not chunks or shape[0] < 100:
                continue
            found = by_index(path, data)
            if found is not None:
                assert found == asked(lambda data=data: by_library(data)), seed
                rows = b"".join(bytes(raw[at : at + 12]) for at in found)
                assert rows == asked(lambda data=data: data[()].tobytes()), seed
                same += 1
    assert 20 < same < 100
