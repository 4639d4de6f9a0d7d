import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from milforge.data import read_idx


def idx_bytes(array):
    """The format by its definition, one value at a time."""
    content = bytes([0, 0, 8, array.ndim])
    for size in array.shape:
        content += struct.pack(">I", size)
    return content + bytes(int(value) for value in array.ravel())


ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def write(folder, content, name="train-images-idx3-ubyte.gz"):
    path = folder / name
    path.write_bytes(content)
    return path


@given(
    array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)),
    compress=st.booleans(),
)
def test_reads_what_was_written(tmp_path_factory, array, compress):
    content = idx_bytes(array)
    path = write(tmp_path_factory.mktemp("idx"), gzip.compress(content) if compress else content)
    result = read_idx(path)
    assert result.dtype == np.uint8
    assert result.flags.writeable
    np.testing.assert_array_equal(result, array, strict=True)


def test_dimensions_are_big_endian(tmp_path):
    path = write(tmp_path, bytes([0, 0, 8, 1, 0, 0, 1, 2]) + bytes(258))
    assert read_idx(str(path)).shape == (258,)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "absent.gz", tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"^{path}: expected an IDX file.*check"):
            read_idx(path)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "24 values.*got 23: .*truncated.*again"),
        (lambda content: content[:16], "24 values.*got 0: .*truncated.*again"),
        (lambda content: content[:15], "16 bytes of header, got 15.*truncated.*again"),
        (lambda content: content[:4], "16 bytes of header, got 4 .*truncated.*again"),
        (lambda content: content[:3], "00 00 08, got 00 00 08: .*again"),
        (lambda content: b"", "00 00 08, got an empty file: .*again"),
        (lambda content: content + b"\0", "24 values.*got 25: .*trailing bytes.*again"),
        (lambda content: b"\0\0\x0d" + content[3:], "00 00 08, got 00 00 0d 03: .*right file"),
        (lambda content: b"<!DOCTYPE html>", "00 00 08, got 3c 21 44 4f: .*right file"),
    ],
)
def test_damaged_content(tmp_path, change, message, compress):
    content = change(idx_bytes(ARRAY))
    path = write(tmp_path, gzip.compress(content) if compress else content)
    with pytest.raises(ValueError, match=rf"^{path}: expected .*{message}"):
        read_idx(path)


@given(data=st.data())
def test_truncated_gzip_at_any_byte(tmp_path_factory, data):
    whole = gzip.compress(idx_bytes(ARRAY))
    length = data.draw(st.integers(2, len(whole) - 1))
    path = write(tmp_path_factory.mktemp("idx"), whole[:length])
    with pytest.raises(ValueError, match=rf"^{path}: .*gzip.*truncated or damaged.*again"):
        read_idx(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole + b"rubbish",
        lambda whole: whole[:-8] + bytes(4) + whole[-4:],
        lambda whole: whole[:10] + b"\xff" * 8 + whole[18:],
    ],
    ids=["rubbish after the end", "wrong checksum", "undecodable"],
)
def test_damaged_gzip(tmp_path, damage):
    path = write(tmp_path, damage(gzip.compress(idx_bytes(ARRAY))))
    with pytest.raises(ValueError, match=rf"^{path}: .*gzip.*truncated or damaged.*again"):
        read_idx(path)
