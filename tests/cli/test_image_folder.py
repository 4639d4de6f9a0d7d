"""Training on a folder of large images, by the real commands."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

from milforge.data import read_splits

SMALL = (
    "model=attention_sampling",
    "model.patch_size=[24,24]",
    "model.n_patches=2",
    "model.feature.width=4",
    "model.feature.stride=2",
    "model.attention.hidden=[2]",
    "data=image_folder",
    "data.low_size=[10,12]",
    "loader.batch_size=4",
    "loader.num_workers=0",
    "split.folds=3",
    "split.val_share=0.2",
    "trainer.max_epochs=1",
    "logger=none",
)


def write_folder(folder, count=12):
    """Slides of two classes, two a patient; the left half is glass.

    Of every second one a pixel is half as large.
    """
    rng = np.random.default_rng(0)
    (folder / "slides").mkdir()
    rows = ["slide_id,label,patient"]
    for i in range(count):
        image = rng.integers(0, 99, (100 + i, 120, 3)).astype(np.uint8)
        image[..., 1] //= 2  # stained
        image[40:60, 80:100] += np.uint8(150 * (i % 4 // 2))
        image[:, :60] = 240
        per_cm = 20_000 * (1 + i % 2)
        tifffile.imwrite(
            folder / "slides" / f"s{i}.tif",
            image,
            tile=(64, 64),
            compression="deflate",
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
        )
        rows.append(f"s{i}.tif,{['normal', 'tumour'][i % 4 // 2]},p{i // 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return "data.root=slides", "data.labels=labels.csv", "task.class_names=[normal,tumour]"


@pytest.fixture
def options(tmp_path):
    """A folder of slides, and what to call it by."""
    return (*SMALL, *write_folder(tmp_path))


def test_train_evaluate_and_predict_without_labels(here, tmp_path, options):
    trained = here("train", *options, "model.patch_um=12", "callbacks.figures=null")
    assert trained.returncode == 0, trained.stderr
    run = trained.run()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data"]["bags"] == {"train": 4, "val": 4, "test": 4}
    split = read_splits(run / "splits.csv")
    patients = [{int(name[1:]) // 2 for name in part} for part in (split.train, split.test)]
    assert not patients[0] & patients[1]
    assert (run / "figures" / "sampled_patches.png").is_file()

    checkpoint = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    undrawn = ("callbacks.figures=null", "callbacks.sampling_figures=null")
    evaluated = here("evaluate", checkpoint, "logger=none", *undrawn)
    found = json.loads((evaluated.run("evaluate") / "summary.json").read_text())["metrics"]
    expected = {k: v for k, v in summary["metrics"].items() if k.startswith("test/")}
    assert found == pytest.approx(expected)

    predicted = here("predict", checkpoint, "data.labels=null", "logger=none")
    assert predicted.returncode == 0, predicted.stderr
    folder = predicted.run("predict") / "predictions"
    bags = pq.read_table(folder / "bags.parquet").to_pydict()
    assert sorted(bags["bag_id"]) == sorted(f"s{i}" for i in range(12))
    assert bags["label"] == [None] * 12
    instances = pq.read_table(folder / "instances.parquet").to_pydict()
    assert len(instances["bag_id"]) == 24
    for name, x, y in zip(
        *(instances[column] for column in ("bag_id", "coord_0", "coord_1")), strict=True
    ):
        number = int(name[1:])
        side = 24 * (1 + number % 2)  # 12 micrometres
        assert 0 <= x <= 120 - side
        assert 0 <= y <= 100 + number - side
        assert x + side > 60  # on tissue


def test_slides_without_a_resolution_are_named_before_training(
    here, tmp_path, options, monkeypatch
):
    def too_late(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr("lightning.Trainer.fit", too_late)
    image = np.zeros((107, 120, 3), np.uint8)
    tifffile.imwrite(tmp_path / "slides" / "s7.tif", image, tile=(64, 64), compression="deflate")
    message = here("train", *options, "model.patch_um=12").error()
    assert "s7.tif: expected an image that says how many micrometres its pixels are" in message
    assert "model.patch_um=null" in message


def test_all_faults_are_told_before_training(here, tmp_path, options):
    (tmp_path / "slides" / "s3.tif").write_bytes(b"nothing")
    (tmp_path / "slides" / "orphan.npy").write_bytes(b"nothing")
    (tmp_path / "slides" / "s5.tif").unlink()
    failed = here("train", *options)
    assert failed.returncode == 1
    for told in ("4 faults", "s3.tif", "orphan.npy", "label for image 'orphan'", "an image 's5'"):
        assert told in failed.stderr
    assert not list(tmp_path.rglob("summary.json"))


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.nightly
def test_what_cannot_be_read_is_skipped_and_counted(here, process, tmp_path, options):
    (tmp_path / "slides" / "s3.tif").write_bytes(b"nothing")
    damaged = tmp_path / "slides" / "s0.tif"
    with tifffile.TiffFile(damaged) as tiff:
        page = tiff.pages[0]
        tiles = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with damaged.open("r+b") as file:
        for offset, count in tiles:
            file.seek(offset)
            file.write(b"\xff" * count)
    stopped = here("train", *options, "data.on_error=raise")
    assert "s3.tif" in stopped.stderr
    outcome = here("train", *options, "data.on_error=skip")
    assert outcome.returncode == 0, outcome.stderr
    data = json.loads((outcome.run() / "summary.json").read_text())["data"]
    assert data["skipped"] == ["s3"]
    assert sum(data["bags"].values()) == 11
    (name,) = data["unreadable_windows"]
    assert name.endswith("s0.tif")
    once = data["unreadable_windows"][name]
    assert once >= 1

    def lost(command, run, *more):
        outcome = command("train", *options, "data.on_error=skip", f"run={run}", *more)
        assert outcome.returncode == 0, outcome.stderr
        summary = json.loads((tmp_path / f"logs/train/runs/{run}/summary.json").read_text())
        windows = summary["data"]["unreadable_windows"]
        assert list(windows) == [name]
        return windows[name], (outcome.stdout + outcome.stderr).count("counts as black")

    # Each view and patch of it counts once, whoever reads it and in any run before.
    assert lost(here, "again")[0] == once
    assert lost(here, "longer", "trainer.max_epochs=3")[0] > once  # those of training count
    assert lost(here, "workers", "loader.num_workers=1")[0] == once
    # What each of several processes met is logged by it.
    found, logged = lost(process, "two", "trainer=ddp_cpu", "callbacks.figures=null")
    assert found == logged >= once


def test_a_damaged_tile_stops_training_and_is_named(here, tmp_path, options):
    for damaged in (tmp_path / "slides").iterdir():
        with tifffile.TiffFile(damaged) as tiff:
            offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
        with damaged.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * count)
    message = here("train", *options).error()
    assert "cannot read the window" in message
    assert ".tif" in message
    assert "restore it" in message


def test_bags_and_images_need_models_of_their_kind(here, options):
    message = here("train", *options, "model=abmil").error()
    assert "model.patch_size" in message or "choose model=attention_sampling" in message
