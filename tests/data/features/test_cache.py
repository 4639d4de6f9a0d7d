import os
import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from bag_folders import features, grid, plain_folder, truncate, write_h5, write_npy, write_pt
from milforge.data import FeatureBags
from milforge.data.faults import BagError
from milforge.data.features.cache import CachedReader
from milforge.data.features.readers import bag_files, open_reader
from milforge.data.features.readers.arrays import places

ROWS = np.array([0, 3, 4, 9])


@pytest.fixture(autouse=True)
def files_count_as_old(monkeypatch):
    monkeypatch.setattr(places, "_SETTLED_AFTER", -1.0)


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were opened to read a bag of a folder."""
    names = []
    open_arrays = bag_files.open_arrays

    def count(path):
        names.append(path.name)
        return open_arrays(path)

    monkeypatch.setattr(bag_files, "open_arrays", count)
    return names


def assert_same(one, two):
    streams = [bag.x if isinstance(bag.x, dict) else {"": bag.x} for bag in (one, two)]
    assert list(streams[0]) == list(streams[1])
    for name, x in streams[0].items():
        assert x.dtype == streams[1][name].dtype
        assert torch.equal(x, streams[1][name])
    for name in ("coords", "y_inst"):
        parts = getattr(one, name), getattr(two, name)
        assert (parts[0] is None) == (parts[1] is None)
        assert parts[0] is None or torch.equal(*parts)
        assert parts[0] is None or parts[0].dtype == parts[1].dtype
    assert (one.bag_id, one.y) == (two.bag_id, two.y)


def layouts(root):
    """A reader of each kind of file and of all parts that a bag can have."""
    x = features(12)
    labels = np.arange(12) % 2
    write_h5(root / "h5/a.h5", {"features": x, "coords": grid(12), "inst_label": labels})
    write_pt(root / "clam/pt_files/a.pt", torch.from_numpy(x).to(torch.bfloat16))
    write_h5(root / "clam/h5_files/a.h5", {"features": x, "coords": grid(12)})
    write_npy(root / "npy/a.npy", features(12, dtype=np.float64))
    for name, values in (("features", x), ("coords", grid(12)), ("inst_labels", labels)):
        write_npy(root / f"torchmil/{name}/a.npy", values)
    for width in (3, 5):
        write_h5(root / f"two/features_{width}/a.h5", {"features": features(12, width)})
    return [open_reader(root / name) for name in ("h5", "clam", "npy", "torchmil", "two")]


def test_a_copy_is_what_was_read(tmp_path, opened):
    for number, reader in enumerate(layouts(tmp_path)):
        # Another reader, which has opened no file yet.
        cached = CachedReader(replace(reader), tmp_path / "cache")
        wanted, part = reader.read("a"), reader.read("a", ROWS)
        opened.clear()
        assert_same(cached.read("a"), wanted)
        assert opened
        opened.clear()
        again = pickle.loads(pickle.dumps(CachedReader(reader, tmp_path / "cache")))
        for each in (cached, again):
            assert_same(each.read("a"), wanted)
            assert_same(each.read("a", ROWS), part)
            coords = each.coords("a")
            assert (coords is None) == (wanted.coords is None)
            assert coords is None or torch.equal(coords, wanted.coords)
        assert opened == []
        assert cached.header("a") == reader.header("a")
        for name in ("root", "layout", "ids", "streams", "has_labels"):
            assert getattr(cached, name) == getattr(reader, name)
        assert len(list((tmp_path / "cache").iterdir())) == number + 1


def test_a_part_that_is_read_first_copies_all(tmp_path):
    reader = open_reader(plain_folder(tmp_path / "bags", [12]))
    cached = CachedReader(reader, tmp_path / "cache")
    assert_same(cached.read("b0", ROWS), reader.read("b0", ROWS))
    assert_same(cached.read("b0"), reader.read("b0"))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_coords_alone_copy_nothing(tmp_path):
    reader = open_reader(plain_folder(tmp_path / "bags", [12]))
    cached = CachedReader(reader, tmp_path / "cache")
    assert torch.equal(cached.coords("b0"), reader.read("b0").coords)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_file_that_changed_is_copied_anew(tmp_path, keep_time):
    root = plain_folder(tmp_path / "bags", [12, 12])
    cached = CachedReader(open_reader(root), tmp_path / "cache")
    cached.read("b0")
    before = (root / "b0.h5").stat()
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    write_h5(root / "b0.h5", {"features": features(12, seed=9), "coords": grid(12)})
    if keep_time:
        os.utime(root / "b0.h5", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (root / "b0.h5").stat().st_size == before.st_size
    np.testing.assert_array_equal(cached.read("b0").x.numpy(), features(12, seed=9))


def test_options_and_bags_have_copies_of_their_own(tmp_path):
    root = tmp_path / "bags"
    labels = np.arange(12) % 3
    arrays = {"features": features(12), "other": features(12, seed=1), "inst_label": labels}
    write_h5(root / "a.h5", {**arrays, "coords": grid(12), "places": grid(12, 8)})
    write_h5(root / "b.h5", arrays)
    changes = (
        {"positive_instance_label": 1},
        {"positive_instance_label": 2},
        {"positive_instance_label": 2, "features_key": "other"},
        {"positive_instance_label": 2, "coords_key": "places"},
        {"inst_label_key": "nothing"},
    )
    for options in changes:
        reader = open_reader(root, **options)
        cached = CachedReader(reader, tmp_path / "cache")
        for _ in range(2):
            for bag_id in ("a", "b"):
                assert_same(cached.read(bag_id), reader.read(bag_id))
    assert len(list((tmp_path / "cache").iterdir())) == 2 * len(changes)


def test_a_damaged_copy_is_made_again(tmp_path):
    reader = open_reader(plain_folder(tmp_path / "bags", [12]))
    cached = CachedReader(reader, tmp_path / "cache")
    cached.read("b0")
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    truncate(path)
    assert torch.equal(cached.coords("b0"), reader.coords("b0"))
    assert_same(cached.read("b0", ROWS), reader.read("b0", ROWS))
    assert path.read_bytes() == whole


def test_a_faulty_bag_is_told_as_ever_and_not_copied(tmp_path):
    root = plain_folder(tmp_path / "bags", [12, 12])
    cached = CachedReader(open_reader(root), tmp_path / "cache")
    truncate(root / "b0.h5")
    with pytest.raises(BagError, match=r"b0\.h5: .*truncated"):
        cached.read("b0")
    (root / "b1.h5").unlink()
    with pytest.raises(BagError, match=r"b1\.h5: expected a file, found none"):
        cached.read("b1")
    assert list((tmp_path / "cache").iterdir()) == []


def test_features_that_are_not_finite_are_told_from_the_copy_too(tmp_path):
    x = features(12)
    x[5, 1] = np.nan
    path = write_h5(tmp_path / "bags/a.h5", {"features": x})
    bags = FeatureBags(CachedReader(open_reader(tmp_path / "bags"), tmp_path / "cache"))
    for _ in range(2):
        with pytest.raises(BagError, match=rf"^{path}: .*nan in row 5"):
            bags[0]


def test_a_table_needs_no_copy(tmp_path):
    (tmp_path / "bags.csv").write_text("bag_id,a\nx,1\ny,2\n")
    with pytest.raises(ValueError, match=r"folder of bags with data\.cache, got the table .*null"):
        CachedReader(open_reader(tmp_path / "bags.csv"), tmp_path / "cache")


def test_a_folder_that_cannot_be_made_or_written_to_is_named(tmp_path, monkeypatch):
    root = plain_folder(tmp_path / "bags", [3])
    reader = open_reader(root)
    with pytest.raises(OSError, match=r"b0\.h5"):
        CachedReader(reader, root / "b0.h5")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"cache: .* to write to as data\.cache, got no perm"):
        CachedReader(reader, tmp_path / "cache")
