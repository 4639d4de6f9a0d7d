import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import zarr

from milforge.data import ArraySource, SlideSource, TiffSource, open_source

APERIO = "Aperio Image Library v11.2.1 \r\n60x50 (64x48) JPEG/RGB Q=30"


def test_by_suffix(tmp_path, image, pyramid):
    array = image(60, 50, 3)
    np.save(tmp_path / "a.npy", array)
    zarr.create_array(tmp_path / "a.zarr", data=array, chunks=(16, 16, 3))
    for name in ("a.tif", "b.TIFF", "c.ome.tif", "d.svs"):
        pyramid(tmp_path / name, [array], "pages")
    kinds = {
        "a.npy": ArraySource,
        "a.zarr": ArraySource,
        "a.tif": TiffSource,
        "b.TIFF": TiffSource,
        "c.ome.tif": TiffSource,
        "d.svs": SlideSource,
    }
    for name, kind in kinds.items():
        source = open_source(tmp_path / name)
        assert type(source) is kind
        assert source.shape == (3, 60, 50)
    assert open_source(str(tmp_path / "a.npy"), "HWC").shape == (3, 60, 50)


def test_a_makers_tiff_is_a_slide(tmp_path, image, pyramid):
    path = pyramid(tmp_path / "a.tif", [image(60, 50, 3)], "pages", description=APERIO)
    assert type(open_source(path)) is SlideSource


@pytest.mark.parametrize(
    ("name", "axes", "message"),
    [
        ("a.png", None, r"a.png: expected one of .npy, .zarr, .tif, .tiff, .svs.*got .png"),
        ("a", None, "a: expected one of .*got no suffix"),
        ("a.tif", "HW", "a.tif: expected axes for .npy and .zarr only, got 'HW'"),
        ("a.svs", "HW", "a.svs: expected axes for .npy and .zarr only, got 'HW'"),
    ],
)
def test_errors(name, axes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / name, axes)


@pytest.mark.parametrize("name", ["a.npy", "a.zarr", "a.tif", "a.svs"])
def test_a_missing_file(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{name}: expected an image, found no file"):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "package"), [("a.zarr", "zarr"), ("a.tif", "tifffile"), ("a.svs", "openslide")]
)
def test_a_missing_package(name, package, tmp_path, monkeypatch):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"expected {package} .*pip install 'milforge\[slides\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        open_source(tmp_path / name)


def test_a_tiff_needs_no_openslide(tmp_path, image, pyramid, monkeypatch):
    path = pyramid(tmp_path / "a.tif", [image(60, 50, 3)])
    monkeypatch.setattr("milforge.data.images.sources.open.find_spec", lambda name: None)
    assert open_source(path).shape == (3, 60, 50)


def test_importing_the_readers_imports_no_package_of_the_extra():
    packages = ("tifffile", "imagecodecs", "openslide", "zarr")
    code = f"import sys, milforge.data; print([p for p in {packages} if p in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_file_put_in_the_place_of_another_is_read_anew(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((9, 9), np.uint8))
    first = open_source(tmp_path / "a.npy")
    assert int(first.read(torch.tensor([[0, 0]]), (9, 9)).sum()) == 0
    np.save(tmp_path / "b.npy", np.ones((9, 9), np.uint8))
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    monkeypatch.chdir(tmp_path)
    second = open_source("a.npy")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert int(second.read(torch.tensor([[0, 0]]), (9, 9)).sum()) == 81
    assert second.name == str(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".svs"])
def test_a_pipe_is_not_opened(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match="expected an image, got a pipe"):
        open_source(tmp_path / f"a{suffix}")


def test_a_size_that_no_image_has_is_told_with_the_file(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(2**31, 2**31), chunks=(1024, 1024), dtype="u1")
    with pytest.raises(ValueError, match=r"a\.zarr: expected .* got 2147483648 x 2147483648"):
        open_source(tmp_path / "a.zarr")
