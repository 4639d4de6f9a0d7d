"""What earlier runs found of bags is believed as long as the files are the same."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from bag_folders import features, grid, plain_folder, truncate, write_h5, write_labels
from milforge.data import FeatureBags, LabelledBags, PatientBags, WrappedDataset, feature_bags
from milforge.data.dataset import bag_faults, bag_state
from milforge.data.features.readers import bag_files, folder_reader
from milforge.data.features.readers.arrays import places
from milforge.training.data.standardising import make_standardiser

SIZES = [12, 9, 12, 7]


@pytest.fixture(autouse=True)
def files_count_as_old(monkeypatch):
    monkeypatch.setattr(places, "_SETTLED_AFTER", -1.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/milforge"


@pytest.fixture
def opened(monkeypatch):
    """Names of the files of bags that were opened."""
    names = []
    open_arrays = bag_files.open_arrays

    def count(path):
        names.append(path.stem)
        return open_arrays(path)

    monkeypatch.setattr(bag_files, "open_arrays", count)
    return names


@pytest.fixture
def root(tmp_path):
    return plain_folder(tmp_path / "bags", SIZES)


def run(root, **options):
    """What a run looks at before training: the table, its faults, and what standardises."""
    table = feature_bags(str(root), str(labels_of(root)), group_column="patient", **options)
    faults = bag_faults(table.bags, range(len(table.bags)), lambda: None)
    names = [fault.bag_id for fault in (*table.faults, *faults)]
    train = LabelledBags(table.bags, [n for n, i in enumerate(table.ids) if i not in names])
    standardise = make_standardiser({"train": train}, train[0].instance_shape, "train", 0)
    return table, names, standardise


def labels_of(root):
    path = root.parent / "labels.csv"
    rows = [(f"b{n}", n % 2, f"patient {n // 2}") for n in range(len(SIZES))]
    return write_labels(path, rows, "slide_id,label,patient")


def sizes(table):
    return table.bags.sizes.tolist()


def with_nan(root, name, size):
    x = features(size, seed=5)
    x[3, 1] = np.nan
    return write_h5(root / f"{name}.h5", {"features": x, "coords": grid(size)})


def test_files_that_are_the_same_are_not_opened_again(root, opened):
    table, names, first = run(root)
    assert names == []
    # Once each, as these are small: for header, check, digests and statistics together.
    assert sorted(opened) == ["b0", "b1", "b2", "b3"]
    opened.clear()
    again, names, second = run(root)
    assert opened == ["b0"]  # of which the shape of an instance is taken here
    assert names == []
    assert sizes(again) == sizes(table) == SIZES
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.std, second.std)


def same_size(root):
    with_nan(root, "b1", SIZES[1])


def other_size(root):
    with_nan(root, "b1", SIZES[1] + 1)


def time_set_back(root):
    before = (root / "b1.h5").stat()
    with_nan(root, "b1", SIZES[1])
    os.utime(root / "b1.h5", ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(root):
    """By another file of the same size and time, which was there before."""
    before = (root / "b1.h5").stat()
    other = with_nan(root.parent / "elsewhere", "b1", SIZES[1])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, root / "b1.h5")
    now = (root / "b1.h5").stat()
    assert (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("change", [same_size, other_size, time_set_back, replaced])
def test_a_file_that_changed_is_looked_at_again(root, opened, change):
    run(root)
    change(root)
    opened.clear()
    table, names, _ = run(root)
    assert set(opened) >= {"b1"}
    assert names == ["b1"]
    assert sizes(table)[1] == SIZES[1] + (change is other_size)


def test_a_file_that_is_gone_is_missed(root):
    run(root)
    (root / "b1.h5").unlink()
    assert "b1" in run(root)[1]


def test_a_faulty_bag_is_named_each_time(root):
    with_nan(root, "b2", SIZES[2])
    for _ in range(2):
        assert run(root)[1] == ["b2"]
    # One that is skipped is found by reading everything.
    for _ in range(2):
        table, _, _ = run(root, on_error="skip")
        assert [fault.bag_id for fault in table.faults] == ["b2"]


def test_what_headers_alone_have_shown_is_not_taken_for_read(root):
    with_nan(root, "b2", SIZES[2])
    for _ in range(2):
        feature_bags(str(root), str(labels_of(root)), group_column="patient", check="headers")
    assert run(root)[1] == ["b2"]


def test_large_bags_are_read_by_the_check_and_believed_then(root, opened, monkeypatch):
    monkeypatch.setattr("milforge.data.features.folder._SOON", 0)
    run(root)
    assert set(opened) == {"b0", "b1", "b2", "b3"}
    opened.clear()
    run(root)
    assert opened == ["b0"]


def test_other_options_are_looked_at_for_themselves(root):
    for name in ("b0", "b1"):
        write_h5(root / f"{name}.h5", {"features": features(12), "other": features(5)})
    for _ in range(2):
        for key, size in (("features", 12), ("other", 5)):
            table = feature_bags(
                str(root),
                str(labels_of(root)),
                group_column="patient",
                features_key=key,
                coords_key=None,
            )
            assert sizes(table)[:2] == [size, size]


def test_bags_of_the_same_features_are_named_each_time(root, caplog):
    write_h5(root / "b2.h5", {"features": features(12), "coords": grid(12)})
    for _ in range(2):
        caplog.clear()
        run(root)
        assert "bags of the same features: b0 = b2" in caplog.text


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b"no archive")])
def test_what_is_damaged_is_found_out_anew(root, opened, cache, damage):
    run(root)
    for path in cache.iterdir():
        damage(path)
    opened.clear()
    assert run(root)[1] == []
    assert set(opened) == {"b0", "b1", "b2", "b3"}
    opened.clear()
    run(root)
    assert opened == ["b0"]


def test_it_holds_no_name_of_a_bag(root, cache):
    (root / "b3.h5").rename(root / "smith.h5")
    feature_bags(str(root))
    files = list(cache.iterdir())
    assert files
    for path in files:
        assert b"smith" not in path.read_bytes()
        assert str(root).encode() not in path.read_bytes()


def test_a_user_without_a_folder_for_it_is_served_too(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert run(root)[1] == []


def test_what_was_found_while_a_file_changed_is_not_kept(root, opened, monkeypatch):
    looked = folder_reader.FolderReader.header

    def change_meanwhile(self, bag_id, **options):
        header = looked(self, bag_id, **options)
        os.utime(root / f"{bag_id}.h5")
        return header

    with monkeypatch.context() as patch:
        patch.setattr(folder_reader.FolderReader, "header", change_meanwhile)
        feature_bags(str(root), str(labels_of(root)), group_column="patient")
    opened.clear()
    run(root)
    assert set(opened) == {"b0", "b1", "b2", "b3"}


def test_files_written_a_moment_ago_are_not_believed_later(root, opened, monkeypatch):
    monkeypatch.setattr(places, "_SETTLED_AFTER", 3600.0)
    run(root)
    opened.clear()
    run(root)
    assert set(opened) == {"b0", "b1", "b2", "b3"}


class Halved(WrappedDataset):
    def __getitem__(self, index):
        raise AssertionError("read")


def test_bags_that_a_class_of_its_own_changes_are_read(root):
    table, _, _ = run(root)
    for bags in (table.bags, PatientBags(table.bags, [[0, 1], [2]], ["p", "q"])):
        assert bag_faults(LabelledBags(bags, [1]), [0], lambda: None) == []
        assert bag_state(LabelledBags(bags, [1]), 0) == bag_state(bags, 1) is not None
        assert bag_state(Halved(bags), 0) is None
        with pytest.raises(AssertionError, match="read"):
            bag_faults(Halved(bags), [0], lambda: None)


class Doubled(FeatureBags):
    def read_into(self, index, out=None, *, coords=True):
        bag = super().read_into(index, out, coords=coords)
        return replace(bag, x=2 * bag.x)


def test_nor_is_what_it_changes_in_all_reads_taken_for_the_file(root):
    bags = run(root)[0].bags
    doubled = Doubled(bags.reader, known=bags.known)
    means = [
        make_standardiser({"train": LabelledBags(each, [0, 1])}, (4,), "train", 0).mean
        for each in (bags, doubled)
    ]
    torch.testing.assert_close(means[1], 2 * means[0])


def test_runs_with_other_options_keep_what_each_other_found(root, opened):
    for key in ("inst_label", "other"):
        run(root, inst_label_key=key)
    opened.clear()
    run(root)
    assert opened == ["b0"]  # of which `run` shows the shape


def test_bags_whose_coords_are_left_out_are_remembered_too(root, opened):
    write_h5(root / "b1.h5", {"features": features(SIZES[1], seed=1)})
    table, names, _ = run(root)
    assert (names, table.bags[0].coords) == ([], None)
    opened.clear()
    run(root)
    assert opened == ["b0"]


def test_each_patient_is_counted_once_and_its_slides_are_looked_at(root):
    with_nan(root, "b1", SIZES[1])
    table, _, _ = run(root)
    done = []
    patients = PatientBags(table.bags, [[0, 1], [2]], ["p", "q"])
    faults = bag_faults(patients, [0, 1], lambda: done.append(1))
    assert [fault.bag_id for fault in faults] == ["b1"]
    assert len(done) == 2


def test_bags_of_which_instances_are_drawn_are_checked_whole(root):
    """Else the run would end in the epoch in which the faulty one is drawn."""
    x = features(40, seed=5)
    x[39, 1] = np.nan
    write_h5(root / "b0.h5", {"features": x, "coords": grid(40)})
    table = feature_bags(
        str(root), str(labels_of(root)), group_column="patient", max_instances_per_bag=1
    )
    assert bag_state(table.training_bags, 0) is None
    numbers = range(len(SIZES))
    assert [f.bag_id for f in bag_faults(table.training_bags, numbers, lambda: None)] == ["b0"]
    known = table.bags.known
    sound = [known.of(table.bags.state(number)).get("sound") for number in numbers]
    assert sound == [None, True, True, True]
