import gzip
import inspect
import socket
import struct
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
import torch

from milforge.data import SPLITS, digits_bags, mnist_bags

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SMALL = {"train": 6, "val": 6, "test": 6, "mean_size": 4, "sd_size": 1}

NAMES = [*FILES["train"], *FILES["test"]]


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def made(count, first=0):
    """Images that carry their own number in two pixels, and their digit in a third."""
    numbers = np.arange(first, first + count)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = *divmod(numbers, 256), numbers % 10
    images[:, 1, 1] = 255
    return images, (numbers % 10).astype(np.uint8)


def numbers_of(bags):
    pixels = (torch.cat([bag.x for bag in bags])[:, 0, 0] * 255).round().int()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def write(folder, compress=True, train=300, test=100):
    for part, (images, labels) in {"train": made(train), "test": made(test, 1000)}.items():
        for name, array in zip(FILES[part], (images, labels), strict=True):
            content = idx_bytes(array)
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


def parts(splits):
    return [getattr(splits, name) for name in SPLITS]


@pytest.mark.parametrize("compress", [True, False])
def test_bags_from_a_folder(tmp_path, compress):
    splits = mnist_bags(str(write(tmp_path, compress)), **SMALL)
    assert splits.class_names == ("no 9", "9")
    for part in parts(splits):
        assert part.labels.tolist() == [0, 1] * 3
        for bag in part:
            assert bag.x.shape[1:] == (1, 28, 28)
            assert bag.x.dtype == torch.float32
            assert (bag.x[:, 0, 1, 1] == 1).all()
            digits = (bag.x[:, 0, 0, 2] * 255).round().int()
            assert bag.y_inst.tolist() == (digits == 9).int().tolist()
            assert bag.y == int((digits == 9).any())


def test_parts_share_no_image_for_any_seed(tmp_path):
    write(tmp_path)
    options = {"mean_size": 50, "sd_size": 0, "sampling": "plain", "target": [3, 9]}
    seen = [set(), set(), set()]
    for seed in (0, 1):
        splits = mnist_bags(tmp_path, train=40, val=1, test=40, seed=seed, **options)
        for numbers, part in zip(seen, parts(splits), strict=True):
            numbers |= set(numbers_of(part))
        assert all(part.labels.ndim == 2 for part in parts(splits))
    train, val, test = seen
    assert len(val) == 50
    assert train | val == set(range(300))
    assert not train & val
    assert test == set(range(1000, 1100))


def test_seed_decides(tmp_path):
    write(tmp_path)
    first, again, other = (mnist_bags(tmp_path, **SMALL, seed=seed) for seed in (5, 5, 6))
    for part, same, different in zip(*map(parts, (first, again, other)), strict=True):
        assert numbers_of(part) == numbers_of(same)
        assert numbers_of(part) != numbers_of(different)


def test_options_are_those_of_the_digits():
    mnist = dict(inspect.signature(mnist_bags).parameters)
    del mnist["root"]
    assert mnist == dict(inspect.signature(digits_bags).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(tmp_path, name):
    (write(tmp_path) / f"{name}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^{tmp_path / name}: .*\.gz.*data.root=FOLDER"):
        mnist_bags(tmp_path, **SMALL)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"absent/{FILES['train'][0]}: .*data.root=FOLDER"):
        mnist_bags(tmp_path / "absent", **SMALL)


def test_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(write(tmp_path)))
    assert len(mnist_bags("~", **SMALL).train) == 6


@pytest.mark.parametrize("name", NAMES)
def test_truncated_file(tmp_path, name):
    path = write(tmp_path) / f"{name}.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"^{path}: .*truncated"):
        mnist_bags(tmp_path, **SMALL)


@pytest.mark.parametrize("shape", [(300, 32, 32), (300, 28, 20), (300,), (300, 28, 28, 1)])
def test_images_of_another_size(tmp_path, shape):
    path = write(tmp_path, compress=False) / FILES["train"][0]
    path.write_bytes(idx_bytes(np.zeros(shape, np.uint8)))
    with pytest.raises(
        ValueError, match=rf"^{path}: expected images of .*28, 28\), got \({shape[0]}"
    ):
        mnist_bags(tmp_path, **SMALL)


@pytest.mark.parametrize("shape", [(99,), (101,), (100, 1)])
def test_labels_that_do_not_fit(tmp_path, shape):
    path = write(tmp_path, compress=False) / FILES["test"][1]
    path.write_bytes(idx_bytes(np.zeros(shape, np.uint8)))
    message = rf"^{path}: expected 100 labels, one per image of {FILES['test'][0]}, got shape"
    with pytest.raises(ValueError, match=message):
        mnist_bags(tmp_path, **SMALL)


def test_a_target_that_does_not_occur(tmp_path):
    with pytest.raises(ValueError, match=r"^train: .*\[0, 1, 2, .*, 9\], got \[11\]"):
        mnist_bags(write(tmp_path), **SMALL | {"target": 11})


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        HTTPError("https://openml.org", 412, "Precondition Failed", {}, None),
        TimeoutError("timed out"),
    ],
    ids=["no network", "refused", "timeout"],
)
def test_offline(tmp_path, monkeypatch, error):
    timeouts = []

    def urlopen(request):
        timeouts.append(socket.getdefaulttimeout())
        raise error

    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", urlopen)
    monkeypatch.setattr("sklearn.datasets._openml.time.sleep", lambda seconds: None)
    files = ".*".join(NAMES)
    with pytest.raises(FileNotFoundError, match=f"OpenML.*data.root=FOLDER.*{files}"):
        mnist_bags(**SMALL)
    assert sum(timeouts) <= 60  # a firewall that drops packets is not waited on for minutes
    assert socket.getdefaulttimeout() is None


def test_openml_rows_are_split_as_published(monkeypatch):
    data = np.zeros((70_000, 784))
    data[:60_000, 0], data[60_000:, 0] = 1, 2
    digits = np.arange(70_000) % 10
    asked = []

    def fetch_openml(name, **options):
        asked.append((name, options["version"], options["as_frame"]))
        return SimpleNamespace(data=data, target=digits.astype(str).astype(object))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    splits = mnist_bags(**SMALL)
    assert asked == [("mnist_784", 1, False)]
    for part, value in zip(parts(splits), (1, 1, 2), strict=True):
        assert {int(v) for bag in part for v in (bag.x[:, 0, 0, 0] * 255).round()} == {value}
        assert part.labels.tolist() == [0, 1] * 3
