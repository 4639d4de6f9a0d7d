"""Values are read from where they lie in a file: what the library gives, bit for bit."""

import os
from functools import partial

import h5py
import numpy as np
import pytest
import torch

from milforge.data import BagError, open_reader
from milforge.data.features.readers import bag_files, bag_places
from milforge.data.features.readers.arrays import places, torch_file
from milforge.data.features.readers.arrays.array_file import open_arrays
from milforge.data.features.readers.arrays.places import place_runs, stamp_of

SHAPES = [(1, 3), (7, 4), (64, 8), (130, 2), (40, 5)]
DTYPES = ["<f2", "<f2", "<f4", "<f4", "<f8", "<i8", "<i4", "u1", ">f4", ">f2", ">i8"]


@pytest.fixture
def settled(monkeypatch):
    """Files count as old."""
    monkeypatch.setattr(places, "_SETTLED_AFTER", -1.0)


def write_layout(path, seed):
    """A dataset written in one of many ways; returns whether its values lie as they are."""
    rng = np.random.default_rng(seed)
    shape, dtype = SHAPES[seed % len(SHAPES)], np.dtype(DTYPES[rng.integers(len(DTYPES))])
    n, d = shape
    values = (rng.standard_normal(shape) * 50).astype(dtype)
    chunks = [None, (1, d), (1, d), (3, d), (n, d), (2, max(1, d // 2)), (1, d + 2)][
        rng.integers(7)
    ]
    filters = [
        {},
        {},
        {},
        {},
        {},
        {},
        {"compression": "gzip"},
        {"shuffle": True},
        {"fletcher32": True},
    ]
    filters += [{"compression": "lzf"}, {"scaleoffset": 2 if dtype.kind == "f" else 0}]
    chosen = filters[rng.integers(len(filters))] if chunks else {}
    if dtype.itemsize == 2 and dtype.kind == "f" and "scaleoffset" in chosen:
        chosen = {}
    if chunks and chunks[0] > n:
        chunks = (n, chunks[1])
    growing = chunks is not None and (chunks[1] > d or rng.random() < 0.6)
    maxshape = (None, None if chunks[1] > d else d) if growing else None
    written = ["all", "all", "part", "none", "shuffled", "grown", "shrunk"][rng.integers(7)]
    block = 512 if rng.random() < 0.1 else 0
    version = ["earliest", "latest"][rng.integers(2)]
    fill = dtype.type(7) if rng.random() < 0.5 else None
    with h5py.File(path, "w", libver=version, userblock_size=block) as file:
        options = {"chunks": chunks, "maxshape": maxshape, "fillvalue": fill, **chosen}
        if rng.random() < 0.5:  # other things lie between its rows
            file["before"] = np.arange(5)
        data = file.create_dataset("features", shape, dtype, **options)
        if written == "all":
            data[:] = values
        elif written == "part":
            data[: n // 2] = values[: n // 2]
        elif written == "shuffled":
            for row in rng.permutation(n):
                data[row] = values[row]
        elif written in ("grown", "shrunk"):
            data[:] = values
            if growing:
                data.resize(n + 5 if written == "grown" else max(1, n - 5), axis=0)
    half = written == "part" and (chunks is not None or n == 1)
    missing = written == "none" or half or (written == "grown" and growing)
    plain = chunks is None or chunks[1] == d
    return plain and dtype.isnative and not chosen and not block and not missing


def read_placed(path, key, rows=None):
    """The values from their places in the file; None where they must be decoded."""
    with open_arrays(path) as arrays:
        found = arrays[key].places(stamp_of(path))
    if found is None:
        return None
    shape = found.shape if rows is None else (len(rows), *found.shape[1:])
    out = np.empty(shape, found.dtype)
    assert found.read(out, rows)
    return out


def assert_same(found, wanted):
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


def test_any_layout_of_hdf5_gives_what_h5py_gives(tmp_path):
    placed = 0
    for seed in range(200):
        path = tmp_path / f"{seed}.h5"
        plain = write_layout(path, seed)
        with h5py.File(path) as file:
            wanted = file["features"][()]
        found = read_placed(path, "features")
        assert (found is not None) or not plain, f"layout {seed} is read by the library"
        if found is not None:
            placed += 1
            assert_same(found, wanted)
            rows = np.flatnonzero(np.random.default_rng(seed).random(len(wanted)) < 0.4)
            assert_same(read_placed(path, "features", rows), wanted[rows])
    assert 40 < placed < 160


def test_any_layout_is_read_as_a_bag_twice(tmp_path, settled):
    for seed in range(60):
        write_layout(tmp_path / f"bag_{seed}.h5", seed)
    reader = open_reader(tmp_path)
    for bag_id in reader.ids:
        with h5py.File(tmp_path / f"{bag_id}.h5") as file:
            stored = file["features"][()]
        wanted = stored.astype("f2" if stored.dtype.itemsize == 2 else "f4")
        wanted = wanted if stored.dtype.kind == "f" else stored.astype("f4")
        memory = {"x": torch.empty(wanted.shape, dtype=torch.from_numpy(wanted).dtype)}
        for out in (None, memory, memory):
            bag = reader.read(bag_id, out=out)
            assert_same(bag.x.numpy(), wanted)
            assert out is None or bag.x is out["x"]


def test_a_file_behind_other_bytes_is_not_read_at_wrong_places(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["features"] = values
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file["features"] = values
    assert read_placed(tmp_path / "block.h5", "features") is None  # libraries count differently
    path = tmp_path / "behind.h5"
    path.write_bytes(bytes(512) + (tmp_path / "plain.h5").read_bytes())
    found = read_placed(path, "features")
    assert found is None or found.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("array", "plain"),
    [
        (np.arange(12, dtype="<f2").reshape(4, 3), True),
        (np.arange(12, dtype="<i8"), True),
        (np.asfortranarray(np.arange(12.0).reshape(4, 3)), False),
        (np.arange(12, dtype=">f4").reshape(4, 3), False),
        (np.zeros((0, 3), np.float32), False),
    ],
)
def test_npy(tmp_path, array, plain):
    path = tmp_path / "a.npy"
    np.save(path, array)
    found = read_placed(path, "")
    assert (found is not None) == plain
    if found is not None:
        assert_same(found, np.load(path))
        assert_same(read_placed(path, "", np.array([1, 2])), np.load(path)[1:3])


def test_tensors_of_a_file_of_pytorch(tmp_path):
    """Members of the archive are told apart though nothing says whose they are."""
    base = torch.arange(60, dtype=torch.float32).reshape(20, 3)
    tensors = {
        "half": torch.arange(8).reshape(4, 2).half(),
        "same size": torch.arange(8, 16).reshape(4, 2).half(),
        "base": base,
        "rows": base[5:9],
        "columns": base[:, :2],
        "turned": base.T,
        "wide": torch.arange(4, dtype=torch.bfloat16)[:, None],
        "none": torch.zeros(0, 3),
        "whole": torch.tensor([[1, 2], [3, 4]]),
    }
    path = tmp_path / "a.pt"
    torch.save(tensors, path)
    for name, tensor in tensors.items():
        found = read_placed(path, name)
        assert (found is None) == (name in ("columns", "turned", "wide", "none")), name
        if found is not None:
            assert_same(found, tensor.numpy())
    torch.save(base[3:7], path)
    assert_same(read_placed(path, ""), base[3:7].numpy())
    torch.save(base, path, _use_new_zipfile_serialization=False)
    assert read_placed(path, "") is None


def test_tensors_that_are_not_mapped_are_told_apart_from_those_of_the_file(tmp_path):
    path = tmp_path / "a.pt"
    tensors = [torch.ones(4, 3), torch.zeros(4, 3)]
    torch.save(tensors, path)
    room = torch.empty(100)
    others = [room[:12].view(4, 3).clone(), torch.empty(12).view(4, 3)]
    assert torch_file._find_places(path, others, others[0], stamp_of(path)) is None


def test_a_file_that_ends_before_its_values_is_not_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    shape, dtype, out = (4, 8), np.dtype(np.float32), np.empty((4, 8), np.float32)
    for start in (0, 100):
        found = place_runs(path, stamp_of(path), shape, dtype, np.array([start]), 4)
        assert not found.read(out)


def test_rows_are_read_however_the_system_hands_them_out(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    values = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    np.save(path, values)
    preadv = os.preadv

    def a_little(file, buffers, offset):
        return preadv(file, [buffers[0][:37]], offset)

    for few in (2, 1000):
        monkeypatch.setattr(places, "_MOST_BUFFERS", few)
        for gap in (0, 100, 10_000):
            monkeypatch.setattr(places, "_LONGEST_GAP", gap)
            for share in (0.02, 0.5, 0.99):
                rows = np.flatnonzero(np.random.default_rng(1).random(500) < share)
                monkeypatch.setattr(os, "preadv", preadv if share < 0.9 else a_little)
                assert_same(read_placed(path, "", rows), values[rows])
    assert_same(read_placed(path, "", np.zeros(0, np.int64)), values[:0])


def clam_like(path, values):
    """As CLAM and TRIDENT write: every row a chunk."""
    with h5py.File(path, "w") as file:
        for key, each in (("features", values), ("coords", np.arange(2 * len(values)))):
            each = each.reshape(len(values), -1)
            chunks = (1, each.shape[1])
            data = file.create_dataset(
                key, each.shape, each.dtype, chunks=chunks, maxshape=(None, chunks[1])
            )
            data[:] = each


def test_places_are_looked_for_once(tmp_path, settled, monkeypatch):
    values = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    clam_like(tmp_path / "a.h5", values)
    reader = open_reader(tmp_path)
    wanted = reader.read("a")
    monkeypatch.setattr(bag_files, "open_arrays", None)  # whoever opens a file fails
    for coords in (True, False):
        bag = reader.read("a", coords=coords)
        assert torch.equal(bag.x, wanted.x)
        assert (bag.coords is not None) == coords
    assert torch.equal(reader.coords("a"), wanted.coords)


def test_a_file_that_takes_the_place_of_an_open_one_is_read_by_its_own_places(
    tmp_path, settled, monkeypatch
):
    old, new = (np.full((300, 4), each, np.float32) for each in (1, 2))
    clam_like(tmp_path / "a.h5", old)
    (tmp_path / "other").mkdir()
    with h5py.File(tmp_path / "other/a.h5", "w") as file:  # as long, and laid out otherwise
        file["text"] = np.zeros(5000)
        file["coords"], file["features"] = np.zeros((300, 2), np.int64), new
    check, swapped = bag_files.check_bag, []

    def swap(opened):
        if not swapped:
            swapped.append(os.replace(tmp_path / "other/a.h5", tmp_path / "a.h5"))
        check(opened)

    reader = open_reader(tmp_path)
    monkeypatch.setattr(bag_files, "check_bag", swap)
    assert torch.equal(reader.read("a").x, torch.from_numpy(new))
    assert torch.equal(reader.read("a").x, torch.from_numpy(new))


def test_coords_that_nothing_asks_for_are_not_looked_at(tmp_path, settled):
    clam_like(tmp_path / "a.h5", np.ones((3, 2), np.float32))
    reader = open_reader(tmp_path)
    looked = []
    looks = dict(bag_places._PARTS)
    for part, arrays in looks.items():
        bag_places._PARTS[part] = lambda bag, part=part, arrays=arrays: (
            looked.append(part) or arrays(bag)
        )
    try:
        assert reader.read("a", coords=False).coords is None
    finally:
        bag_places._PARTS.update(looks)
    assert looked == ["features", "instance_labels"]


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
    reader = open_reader(tmp_path)
    reader.read("a")
    assert reader.content("a") is None


def other(path, values, how):
    if how == "overwritten":
        with h5py.File(path, "r+") as file:
            file["features"][:] = values
    elif how == "replaced":
        clam_like(path.with_name("new"), values)
        os.replace(path.with_name("new"), path)
    elif how == "compressed":
        with h5py.File(path, "w") as file:
            file.create_dataset("features", data=values, compression="gzip")
    elif how == "fewer rows":
        clam_like(path, values[:5])
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "removed":
        path.unlink()


@pytest.mark.parametrize("when", ["between", "while"])
@pytest.mark.parametrize(
    "how", ["overwritten", "replaced", "compressed", "fewer rows", "cut", "removed"]
)
def test_a_file_that_changes_gives_what_the_library_gives(
    tmp_path, settled, monkeypatch, how, when
):
    rng = np.random.default_rng(0)
    old, new = rng.standard_normal((2, 200, 8)).astype(np.float32)
    path = tmp_path / "a.h5"
    clam_like(path, old)
    os.utime(path, (1, 1))
    reader = open_reader(tmp_path)
    assert torch.equal(reader.read("a").x, torch.from_numpy(old))
    if when == "between":
        other(path, new, how)
    else:
        read, left = places._read, [1]

        def change(file, offset, buffers):
            done = read(file, offset, buffers)
            if left:
                left.pop()
                other(path, new, how)
            return done

        monkeypatch.setattr(places, "_read", change)
    coords = how != "compressed"
    if how in ("cut", "removed"):
        with pytest.raises(BagError, match=r"a\.h5: expected"):
            reader.read("a", coords=coords)
        return
    wanted = torch.from_numpy(new[:5] if how == "fewer rows" else new)
    for _ in range(2):
        assert torch.equal(reader.read("a", coords=coords).x, wanted)


def test_without_such_calls_the_library_reads(tmp_path, monkeypatch):
    clam_like(tmp_path / "a.h5", np.ones((3, 2), np.float32))
    monkeypatch.delattr(os, "preadv")
    assert read_placed(tmp_path / "a.h5", "features") is None
    assert open_reader(tmp_path).read("a").x.tolist() == [[1, 1]] * 3


def test_runs_of_neighbours_are_put_together(tmp_path):
    place = partial(place_runs, tmp_path, (0,) * 5, (6, 4), np.dtype(np.float32))
    found = place(np.array([100, 116, 132, 500, 516, 300]), rows=1)
    assert found.starts.tolist() == [100, 500, 300]
    assert found.begins.tolist() == [0, 48, 80, 96]
    found = place(np.array([100, 164]), rows=4)  # the last piece has rows that are not used
    assert (found.starts.tolist(), found.begins.tolist()) == ([100], [0, 96])
