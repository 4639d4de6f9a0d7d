"""Large images on disk as a data set."""

import logging
import os
import pickle
from collections import Counter

import numpy as np
import pytest
import tifffile
import torch
from torch.utils.data import DataLoader

from bag_folders import write_labels
from milforge.data import (
    ImageFolder,
    LabelledBags,
    close_files,
    collate_images,
    image_folder,
)
from milforge.data.dataset import image_source
from milforge.data.images.folder import find_images, open_images, unmatched
from milforge.data.images.sources import LevelSource, TolerantSource, open_source
from milforge.data.images.sources.level import at_full_resolution
from milforge.data.images.sources.tolerant import unreadable

RNG = np.random.default_rng(0)


def write_tiff(path, image, **options):
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "deflate"} | options
    tifffile.imwrite(path, image, **options)


def write_pyramid(path, image):
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, tile=(64, 64), photometric="rgb", subifds=1)
        tiff.write(image[::2, ::2], tile=(64, 64), photometric="rgb", subfiletype=1)


def damage(path, tile=0):
    """Overwrites the compressed bytes of a tile."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[tile], page.databytecounts[tile]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * count)


@pytest.fixture
def folder(tmp_path):
    """Two TIFF files, of which one lies in a folder, and an array."""
    images = {
        name: RNG.integers(0, 256, (150, 200, 3)).astype(np.uint8) for name in ("a", "b", "c")
    }
    (tmp_path / "more").mkdir()
    write_tiff(tmp_path / "b.tif", images["b"])
    write_tiff(tmp_path / "more" / "a.tif", images["a"])
    np.save(tmp_path / "c.npy", images["c"])
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path, images


def test_images_are_found_opened_and_read(folder):
    root, images = folder
    paths, faults = find_images(root)
    assert list(paths) == ["a", "b", "c"]
    assert not faults
    opened, faults = open_images(paths)
    assert not faults
    data = ImageFolder(opened, low_size=(15, 20))
    assert len(data) == 3
    assert data.labels is None  # they come from a table
    for number, name in enumerate(paths):
        item = data[number]
        assert (item.bag_id, item.y) == (name, None)
        window = item.high.read(torch.tensor([[30, 40]]), (50, 60))[0]
        expected = images[name][30:80, 40:100].transpose(2, 0, 1)
        np.testing.assert_array_equal(window, expected)
        mean = images[name].reshape(15, 10, 20, 10, 3).mean((1, 3)).transpose(2, 0, 1)
        np.testing.assert_allclose(item.low.numpy(), mean, atol=0.51)


def test_views_by_scale_and_several_labels(folder):
    root, _ = folder
    opened, _ = open_images(find_images(root)[0])
    data = LabelledBags(
        ImageFolder(opened, low_scale=0.1), range(3), torch.tensor([[0, 1], [1, 1], [0, 0]])
    )
    assert data[1].low.shape == (3, 15, 20)
    assert image_source(data, 1) is opened["b"]
    assert data[1].y.tolist() == [1, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_workers(folder, workers):
    root, images = folder
    opened, _ = open_images(find_images(root)[0])
    data = LabelledBags(ImageFolder(opened, low_size=(15, 20)), range(3), torch.tensor([0, 1, 0]))
    (batch,) = DataLoader(data, batch_size=3, num_workers=workers, collate_fn=collate_images)
    assert batch.bag_id == ["a", "b", "c"]
    assert batch.y.tolist() == [0, 1, 0]
    window = batch.x_high[1].read(torch.tensor([[0, 0]]), (9, 9))[0]
    np.testing.assert_array_equal(window, images["b"][:9, :9].transpose(2, 0, 1))


def test_faults_are_told_together(folder, tmp_path):
    root, _ = folder
    (root / "d.tif").write_bytes(b"no TIFF")
    np.save(root / "e.npy", np.zeros((50, 50), np.uint8))
    write_tiff(root / "more" / "b.tiff", np.zeros((70, 70, 3), np.uint8))
    np.save(root / "f.npy", np.zeros((15, 19, 3), np.uint8))
    paths, double = find_images(root)
    assert [fault.bag_id for fault in double] == ["b"]
    opened, faults = open_images(paths, low_size=(15, 20))
    assert list(opened) == ["a", "c"]  # nobody knows of which b a label speaks
    assert [fault.bag_id for fault in faults] == ["d", "f", "e"]
    assert "expected a view no larger than the image, 15 x 19, got (15, 20)" in str(faults[1])
    assert "expected 3 channels, as most images have, got 1" in str(faults[2])
    assert all(str(paths[fault.bag_id]) in str(fault) for fault in faults)
    alone = unmatched(["a", "b"], ["b", "x"], tmp_path / "labels.csv")
    assert [(fault.bag_id, "label for image" in str(fault)) for fault in alone] == [
        ("a", True),
        ("x", False),
    ]


def test_a_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.*data\.root"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"suffixes .*\.svs"):
        find_images(tmp_path)


def test_a_level_is_an_image_of_its_own(tmp_path):
    image = RNG.integers(0, 256, (130, 170, 3)).astype(np.uint8)
    write_pyramid(tmp_path / "p.tif", image)
    whole = open_source(tmp_path / "p.tif")
    level = LevelSource(whole, 1)
    assert level.shape == (3, 65, 85)
    assert level.levels == whole.levels[1:]
    window = level.read(torch.tensor([[10, 20]]), (30, 40))[0]
    np.testing.assert_array_equal(window, image[::2, ::2][10:40, 20:60].transpose(2, 0, 1))
    with pytest.raises(ValueError, match=r"data\.level to be one of its levels \(0: 130 x 170, 1"):
        LevelSource(whole, 2)
    places = torch.tensor([[0, 0], [64, 84], [-7, 3]])
    assert torch.equal(at_full_resolution(level, places), 2 * places)
    assert torch.equal(at_full_resolution(whole, places), places)
    for tolerant in (False, True):
        opened, faults = open_images({"p": tmp_path / "p.tif"}, level=1, tolerant=tolerant)
        assert opened["p"].shape == (3, 65, 85)
        assert torch.equal(at_full_resolution(opened["p"], places), 2 * places)
        assert not faults
    opened, (fault,) = open_images({"p": tmp_path / "p.tif"}, level=4)
    assert not opened
    assert "data.level" in str(fault)


def test_windows_that_cannot_be_read_are_black_and_counted(tmp_path, caplog):
    image = RNG.integers(1, 256, (128, 128, 3)).astype(np.uint8)
    path = tmp_path / "damaged.tif"
    write_tiff(path, image)
    damage(path, tile=1)  # rows 0 to 63, columns 64 to 127
    strict = open_source(path)
    offsets = torch.tensor([[0, 0], [0, 64], [64, 64]])
    with pytest.raises(OSError, match=r"damaged\.tif.*row 0, column 64"):
        strict.read(offsets, (32, 32))
    tolerant = TolerantSource(strict)
    unreadable.clear()
    with caplog.at_level(logging.WARNING):
        windows = tolerant.read(offsets, (32, 32)).numpy()
    np.testing.assert_array_equal(windows[0], image[:32, :32].transpose(2, 0, 1))
    assert not windows[1].any()
    np.testing.assert_array_equal(windows[2], image[64:96, 64:96].transpose(2, 0, 1))
    assert dict(unreadable) == {str(path): 1}
    assert "column 64" in caplog.text
    assert pickle.loads(pickle.dumps(tolerant)).shape == (3, 128, 128)


@pytest.mark.parametrize("name", ["image.npy", "image.tif"])
@pytest.mark.parametrize("loss", ["deleted", "truncated"])
def test_a_file_that_is_lost_after_it_was_opened_is_black_and_counted(tmp_path, caplog, name, loss):
    path = tmp_path / name
    image = RNG.random((128, 128, 3)).astype(np.float32)
    if path.suffix == ".npy":
        np.save(path, image)
    else:
        write_tiff(path, image)
    opened, faults = open_images({"image": path}, tolerant=True)
    assert not faults
    tolerant = opened["image"]
    close_files()  # as others would have it closed where there are many
    if loss == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    unreadable.clear()
    offsets = torch.tensor([[0, 0], [64, 64]])
    with caplog.at_level(logging.WARNING):
        windows = tolerant.read(offsets, (32, 40))
    assert torch.equal(windows, torch.zeros(2, 3, 32, 40))
    assert dict(unreadable) == {str(path): 2}
    assert caplog.text.count("the window counts as black") == 2
    assert str(path) in caplog.text
    assert not ImageFolder(opened, low_size=(16, 16))[0].low.any()
    assert unreadable[str(path)] == 3
    with pytest.raises(OSError, match=name):
        tolerant.source.read(offsets, (32, 40))
    with pytest.raises(ValueError, match="one of its levels"):
        tolerant.read(offsets, (32, 40), level=1)
    with pytest.raises(ValueError, match=r"offsets of shape \(n, 2\)"):
        tolerant.read(offsets[0], (32, 40))


@pytest.mark.parametrize("how", ["strict", "tolerant"])
def test_an_array_that_is_cut_off_while_it_is_open(tmp_path, how):
    """What is mapped but no longer there would kill the process."""
    path = tmp_path / "image.npy"
    np.save(path, RNG.integers(1, 256, (128, 128, 3)).astype(np.uint8))
    opened, _ = open_images({"image": path}, tolerant=how == "tolerant")
    offsets = torch.tensor([[0, 0]])
    assert opened["image"].read(offsets, (8, 8)).any()
    os.truncate(path, 8192)
    if how == "tolerant":
        assert not opened["image"].read(offsets, (8, 8)).any()
        return
    with pytest.raises(OSError, match=r"image\.npy.*expected a file of 49280 bytes, got 8192"):
        opened["image"].read(offsets, (8, 8))


@pytest.mark.parametrize("other", [(128, 128, 1), (120, 128, 3)])
@pytest.mark.parametrize("name", ["image.npy", "image.tif"])
def test_another_image_in_its_place_is_noticed(tmp_path, name, other):
    path = tmp_path / name

    def write(shape):
        image = RNG.integers(1, 256, shape).astype(np.uint8)
        if path.suffix == ".npy":
            np.save(path, image)
        else:
            write_tiff(path, image.squeeze(), photometric=None)

    write((128, 128, 3))
    source = open_source(path)
    close_files()
    write((128, 128, 3))
    assert source.read(torch.tensor([[0, 0]]), (8, 8)).shape == (1, 3, 8, 8)
    close_files()
    write(other)
    with pytest.raises(OSError, match="another was put in its place, start again"):
        source.read(torch.tensor([[0, 0]]), (8, 8))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_view_is_counted_with_its_image(tmp_path, workers):
    path = tmp_path / "damaged.tif"
    write_tiff(path, RNG.integers(0, 256, (128, 128, 3)).astype(np.uint8))
    damage(path)
    opened, _ = open_images({"damaged": path}, tolerant=True)
    unreadable.clear()
    data = LabelledBags(ImageFolder(opened, low_size=(16, 16)), [0], torch.tensor([1]))
    (batch,) = DataLoader(data, num_workers=workers, collate_fn=collate_images)
    assert dict(unreadable + Counter(batch.unreadable)) == {str(path): 1}
    assert bool(batch.unreadable) == (workers > 0)


def names(faults):
    return [fault.bag_id for fault in faults]


def test_a_folder_and_its_table(folder, tmp_path):
    root, images = folder
    rows = [("p2", "c.svs", "yes", 61), ("p1", "a", "no", ""), ("p1", "b.tif", "yes", 70)]
    path = write_labels(tmp_path / "l.csv", rows, "patient,slide_id,label,age")
    table = image_folder(str(root), str(path), low_size=[15, 20])
    assert table.ids == ("c", "a", "b")  # in the order of the table
    assert table.labels.columns["label"].tolist() == ["yes", "no", "yes"]
    assert table.groups == ("p2", "p1", "p1")
    assert dict(table.columns) == {"age": ["61", "", "70"]}
    assert (table.faults, table.on_error, table.source) == ((), "raise", path)
    assert (table.covariates, table.training_bags, table.check) == ((), None, False)
    image = table.bags[0]
    assert (image.bag_id, image.y, image.low.shape) == ("c", None, (3, 15, 20))
    window = image.high.read(torch.tensor([[0, 0]]), (9, 9))[0]
    np.testing.assert_array_equal(window, images["c"][:9, :9].transpose(2, 0, 1))


def test_columns_of_the_table_by_config(folder, tmp_path):
    root, _ = folder
    rows = [("a", 1, 0, "x"), ("b", 0, 0, "x"), ("c", 1, 1, "y")]
    path = write_labels(tmp_path / "l.csv", rows, "scan,er,pr,centre")
    columns = {"id_column": "scan", "label_column": ["pr", "er"], "group_column": "centre"}
    table = image_folder(str(root), str(path), **columns)
    assert table.labels.names == ("pr", "er")
    assert table.labels.columns["pr"].tolist() == ["0", "0", "1"]
    assert (table.groups, dict(table.columns)) == (("x", "x", "y"), {})


def test_images_alone_are_to_be_predicted(folder):
    root, _ = folder
    (root / "d.tif").write_bytes(b"no TIFF")
    table = image_folder(str(root), on_error="skip", low_scale=0.1)
    assert (table.ids, table.labels, table.source) == (("a", "b", "c"), None, root)
    assert names(table.faults) == ["d"]
    assert table.bags[2].low.shape == (3, 15, 20)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_faults_of_images_and_of_the_table_are_told_once_each(folder, tmp_path, on_error):
    root, _ = folder
    (root / "broken.tif").write_bytes(b"no TIFF")
    write_tiff(root / "double.tif", np.zeros((70, 70, 3), np.uint8))
    write_tiff(root / "more" / "double.tiff", np.zeros((70, 70, 3), np.uint8))
    write_tiff(root / "unlabelled.tif", np.zeros((70, 70, 3), np.uint8))
    rows = [("a", 1, "p"), ("broken", 0, "p"), ("double", 1, "p"), ("nowhere", 1, "q")]
    rows += [("b", 1, ""), ("c", 0, "q")]  # that of b lacks the patient
    path = write_labels(tmp_path / "l.csv", rows, "slide_id,label,patient")
    table = image_folder(str(root), str(path), on_error=on_error)
    # What is done about them is done where labels are understood, all faults together.
    assert table.on_error == on_error
    assert sorted(names(table.faults)) == ["b", "broken", "double", "nowhere", "unlabelled"]
    assert table.ids == ("a", "c")
    assert table.labels.columns["label"].tolist() == ["1", "0"]
    assert table.groups == ("p", "q")
    assert len(table.bags) == 2


def test_windows_are_black_only_where_faults_are_to_be_skipped(folder):
    root, _ = folder
    damage(root / "b.tif")
    strict, tolerant = (
        image_folder(str(root), on_error=how, low_size=[15, 20]) for how in ("raise", "skip")
    )
    with pytest.raises(OSError, match=r"b\.tif"):
        strict.bags[1]
    assert tolerant.bags[1].low.isfinite().all()
    assert sum(unreadable.values()) > 0
    image_folder(str(root))
    assert not unreadable  # those of a job before this one


def test_a_level_of_every_image(tmp_path):
    write_pyramid(tmp_path / "p.tif", RNG.integers(0, 256, (130, 170, 3)).astype(np.uint8))
    assert image_folder(str(tmp_path), level=1).bags[0].high.shape == (3, 65, 85)


def test_options_are_refused_before_any_file_is_looked_at(tmp_path):
    with pytest.raises(ValueError, match=r"data\.on_error to be raise or skip, got 'ignore'"):
        image_folder(str(tmp_path / "nowhere"), on_error="ignore")
    with pytest.raises(FileNotFoundError, match=r"give data\.root"):
        image_folder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("half", [False, True])
def test_what_a_file_says_of_its_pixels_is_pickled_with_it(tmp_path, half):
    """So that worker processes do not open it again to know."""
    resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"} if half else {}
    write_tiff(tmp_path / "a.tif", np.zeros((70, 70, 3), np.uint8), **resolution)
    source = open_source(tmp_path / "a.tif")
    expected = 0.5 if half else None
    assert source.mpp == expected
    (tmp_path / "a.tif").unlink()
    assert pickle.loads(pickle.dumps(source)).mpp == expected
