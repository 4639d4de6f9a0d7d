import json

import numpy as np
import pytest
import torch
import zarr

from milforge.data import ArraySource

OFFSETS = torch.tensor([[3, 4], [-3, 38], [25, -2], [90, 90], [0, 0]])


def expected(cut, array, size=(9, 7)):
    return torch.from_numpy(np.stack([cut(array, *each, *size) for each in OFFSETS.tolist()]))


def save(path, array, chunks=(16, 16)):
    """Writes an array as the suffix says; chunks along the two longest axes."""
    if path.suffix == ".npy":
        np.save(path, array)
        return path
    longest = sorted(range(array.ndim), key=lambda axis: -array.shape[axis])[:2]
    shape = tuple(16 if axis in longest else n for axis, n in enumerate(array.shape))
    zarr.create_array(path, data=array, chunks=shape)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
@pytest.mark.parametrize(
    ("axes", "given", "channels"),
    [("HW", None, 1), ("HWC", None, 3), ("CHW", None, 4), ("HWC", "HWC", 6), ("CHW", "CHW", 6)],
)
def test_axes(suffix, axes, given, channels, tmp_path, image, cut):
    array = image(30, 41, channels)
    stored = {"HW": array[..., 0], "HWC": array, "CHW": array.transpose(2, 0, 1)}[axes]
    source = ArraySource(save(tmp_path / f"a{suffix}", stored), given)
    assert source.shape == (channels, 30, 41)
    assert source.levels == ((30, 41),)
    assert source.name == str(tmp_path / f"a{suffix}")
    assert torch.equal(source.read(OFFSETS, (9, 7)), expected(cut, array))


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
@pytest.mark.parametrize("dtype", ["float16", "<f4", ">f4", "float64"])
def test_floats_stay_what_they_are(suffix, dtype, tmp_path, image, cut):
    array = image(30, 41, 2, np.float64).astype(dtype)
    found = ArraySource(save(tmp_path / f"a{suffix}", array)).read(OFFSETS, (9, 7))
    assert torch.equal(found, expected(cut, array.astype(np.dtype(dtype).newbyteorder("="))))


def test_uint16_is_scaled(tmp_path, image, cut):
    array = image(30, 41, 2, np.uint16)
    found = ArraySource(save(tmp_path / "a.npy", array)).read(OFFSETS, (9, 7))
    assert found.dtype == torch.float32
    assert found.max() == 1
    torch.testing.assert_close(found, expected(cut, array / 65535).float())


def test_an_array_in_fortran_order(tmp_path, image, cut):
    array = image(30, 41, 3)
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    assert torch.equal(ArraySource(tmp_path / "a.npy").read(OFFSETS, (9, 7)), expected(cut, array))


def group(path, levels, attributes=None, names="210"):
    node = zarr.open_group(path, mode="w", attributes=attributes or {})
    for name, level in zip(names, levels, strict=False):
        node.create_array(name, data=level, chunks=tuple(min(16, n) for n in level.shape))
    return path


def test_a_group_is_a_pyramid_largest_first(tmp_path, image, cut):
    levels = [image(60, 50, 3), image(30, 25, 3), image(15, 12, 3)]
    source = ArraySource(group(tmp_path / "a.zarr", levels, names="bca"))
    assert source.levels == ((60, 50), (30, 25), (15, 12))
    for i, level in enumerate(levels):
        assert torch.equal(source.read(OFFSETS, (9, 7), i), expected(cut, level))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(version, tmp_path, image, cut):
    levels = [image(60, 50, 3), image(30, 25, 3)]
    image_ = {
        "axes": [{"name": name} for name in "tczyx"],
        "datasets": [{"path": "2"}, {"path": "1"}],
    }
    attributes = {"multiscales": [image_]}
    stored = [level.transpose(2, 0, 1)[None, :, None] for level in levels]
    # A third array that the metadata do not name is none of the levels.
    path = group(
        tmp_path / "a.zarr",
        [*stored, np.zeros(3, np.uint8)],
        attributes if version == "0.4" else {"ome": attributes},
    )
    source = ArraySource(path)
    assert (source.shape, source.levels) == ((3, 60, 50), ((60, 50), (30, 25)))
    for i, level in enumerate(levels):
        assert torch.equal(source.read(OFFSETS, (9, 7), i), expected(cut, level))


def test_a_volume_in_ome_zarr_is_refused(tmp_path):
    attributes = {"multiscales": [{"axes": list("zyx"), "datasets": [{"path": "2"}]}]}
    path = group(tmp_path / "a.zarr", [np.zeros((7, 20, 20), np.uint8)], attributes)
    with pytest.raises(ValueError, match=r"a.zarr: .*axes \['z', 'y', 'x'\].*\(7, 20, 20\)"):
        ArraySource(path)


def test_a_corrupt_chunk_names_file_level_and_window(tmp_path, image):
    array = image(60, 50, 3)
    zarr.create_array(tmp_path / "a.zarr", data=array, chunks=(16, 16, 3))
    chunk = tmp_path / "a.zarr" / "c" / "1" / "2" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    source = ArraySource(tmp_path / "a.zarr")
    source.read(torch.tensor([[0, 0], [48, 0]]), (9, 7))
    with pytest.raises(OSError, match=r"a.zarr: .*9 x 7 at row 20, column 30 of level 0"):
        source.read(torch.tensor([[20, 30]]), (9, 7))


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((20, 30, 5), None, r"a.npy: .*\(20, 30, 5\): give axes"),
        ((20,), None, r"\(20,\): give axes"),
        ((2, 20, 30, 3), None, "give axes"),
        ((20, 30, 3), "HW", r"axes HW, got the shape \(20, 30, 3\)"),
        ((20, 30), "XY", r"one of \['HW', 'HWC', 'CHW'\], got 'XY'"),
        ((0, 30), None, r"got the shape \(0, 30\)"),
    ],
)
def test_errors_of_axes(shape, axes, message, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=message):
        ArraySource(tmp_path / "a.npy", axes)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_other_dtypes_are_refused(dtype, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4), dtype))
    with pytest.raises(ValueError, match=f"a.npy: .*got {dtype}: convert"):
        ArraySource(tmp_path / "a.npy")


def test_npy_files_that_are_none(tmp_path):
    path = tmp_path / "a.npy"
    with pytest.raises(FileNotFoundError, match=r"a.npy: expected an image, found no file"):
        ArraySource(path)
    np.save(path, np.zeros((50, 50), np.uint8))
    whole = path.read_bytes()
    for part in (b"", b"not an array", whole[:60], whole[:-1]):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"a.npy: expected a whole .npy file"):
            ArraySource(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy: expected a whole .npy file of numbers"):
        ArraySource(path)


def test_zarr_folders_that_are_none(tmp_path):
    path = tmp_path / "a.zarr"
    path.mkdir()
    with pytest.raises(ValueError, match=r"a.zarr: expected a Zarr array, or a group"):
        ArraySource(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"a.zarr: expected a Zarr array, or a group"):
        ArraySource(path)
    group(path, [])
    with pytest.raises(ValueError, match=r"a.zarr: .*without any"):
        ArraySource(path)
    group(path, [np.zeros((20, 20, 3), np.uint8), np.zeros((10, 10, 4), np.uint8)])
    with pytest.raises(ValueError, match=r"a.zarr: .*3 of uint8 and 4 of uint8"):
        ArraySource(path)
    group(path, [np.zeros((20, 20), np.uint8)])
    meta = json.loads((path / "2" / "zarr.json").read_text())
    (path / "2" / "zarr.json").write_text(json.dumps({**meta, "codecs": [{"name": "nothing"}]}))
    with pytest.raises(ValueError, match=r"a.zarr: "):
        ArraySource(path)
