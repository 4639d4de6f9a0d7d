"""Canvases of digits: what their labels say is what stands on them."""

import gzip
import pickle
import struct
from itertools import combinations

import numpy as np
import pytest
import torch

from milforge.data import SPLITS, MegapixelImages, megapixel
from milforge.data.examples.digits import digit_pools
from milforge.data.examples.mnist import mnist_pools

SMALL = {"train": 23, "val": 12, "test": 11, "size": 200, "low_size": 40, "digit_size": 16}
SMALL |= {"noise": 3}


def parts(splits):
    return [getattr(splits, name) for name in SPLITS]


def canvases(images):
    return [images[i].high for i in range(len(images))]


def on_canvas(canvas, number):
    """Glyph of that number as it is read from the canvas."""
    glyph = canvas.glyphs[number]
    window = canvas.read(torch.from_numpy(canvas.places[[number]]), glyph.shape)[0, 0].numpy()
    np.testing.assert_array_equal(window, glyph)  # nothing lies over it
    return window


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """Files in the format of MNIST: images that carry their number, and with it their digit."""
    folder = tmp_path_factory.mktemp("mnist")
    for name, first, count in (("train", 0, 300), ("t10k", 1000, 100)):
        numbers = np.arange(first, first + count)
        images = np.full((count, 28, 28), 100, np.uint8)
        images[:, 0, 0], images[:, 0, 1] = np.divmod(numbers, 256)
        files = {"images-idx3": images, "labels-idx1": (numbers % 10).astype(np.uint8)}
        for kind, array in files.items():
            content = idx_bytes(array)
            # Plain and compressed files are read alike.
            if name == "train":
                (folder / f"{name}-{kind}-ubyte").write_bytes(content)
            else:
                (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


def number_of(glyph):
    return int(glyph[0, 0]) * 256 + int(glyph[0, 1])


@pytest.mark.parametrize(("digits", "agree"), [(5, 3), (2, 2), (11, 2), (4, 4)])
def test_the_label_is_what_most_digits_agree_on(mnist, digits, agree):
    options = {**SMALL, "digit_size": 28, "size": 250, "digits": digits, "agree": agree}
    splits = megapixel("mnist", mnist, **options)
    assert splits.class_names == tuple("0123456789")
    assert all(part.labels.ndim == 1 for part in parts(splits))
    for part, own in zip(parts(splits), (range(300), range(300), range(1000, 1100)), strict=True):
        for i in range(len(part)):
            image = part[i]
            assert len(image.high.glyphs) == digits + 3
            numbers = [number_of(on_canvas(image.high, g)) for g in range(digits)]
            assert set(numbers) <= set(own)
            classes = [number % 10 for number in numbers]
            assert classes.count(image.y) == agree
            others = [c for c in classes if c != image.y]
            assert len(set(others)) == len(others) == digits - agree
            assert image.y == int(part.labels[i])


def test_the_digits_of_scikit_learn_are_shown_as_they_are():
    """At their own size a glyph is an image of its part's pool, 16 being white."""
    splits = megapixel(**{**SMALL, "digit_size": 8, "size": 120})
    seen = []
    for part, (images, labels) in zip(parts(splits), digit_pools(), strict=True):
        classes = {
            np.rint(image * 255.0 / 16).astype(np.uint8).tobytes(): int(label)
            for image, label in zip(images, labels, strict=True)
        }
        shown = set()
        for i in range(len(part)):
            image = part[i]
            digits = [on_canvas(image.high, g).tobytes() for g in range(5)]
            found = [classes[digit] for digit in digits]
            assert found.count(image.y) == 3
            assert len(set(found)) == 3
            shown |= set(digits)
        seen.append(shown)
    for one, other in combinations(seen, 2):
        assert not one & other


def test_the_classes_take_turns():
    for part in parts(megapixel(**SMALL)):
        assert part.labels.dtype == torch.int64
        assert part.labels.tolist() == [i % 10 for i in range(len(part))]


def test_parts_share_no_image_for_any_seed(mnist):
    seen = [set(), set(), set()]
    for seed in range(3):
        options = {"train": 150, "val": 60, "test": 60, "size": 150, "noise": 0, "seed": seed}
        splits = megapixel("mnist", mnist, **options, low_size=30)
        for numbers, part in zip(seen, parts(splits), strict=True):
            for canvas in canvases(part):
                numbers |= {number_of(glyph) for glyph in canvas.glyphs}
    train, val, test = seen
    assert len(val) == 50
    assert train | val == set(range(300))
    assert not train & val
    assert test == set(range(1000, 1100))


@pytest.mark.parametrize(
    ("size", "digit_size", "noise"), [(200, 16, 3), (108, 24, 0), (400, 20, 90)]
)
def test_nothing_overlaps_and_all_lies_within(size, digit_size, noise):
    splits = megapixel(**SMALL | {"size": size, "digit_size": digit_size, "noise": noise})
    for canvas in canvases(splits.val):
        assert canvas.size == (size, size)
        assert len(canvas.glyphs) == 5 + noise
        cover = np.zeros((size, size), int)
        for glyph, (row, column) in zip(canvas.glyphs, canvas.places, strict=True):
            assert glyph.shape == (digit_size, digit_size)
            assert min(row, column) >= 0
            cover[row : row + digit_size, column : column + digit_size] += 1
        assert cover.max() == 1
        assert cover.sum() == (5 + noise) * digit_size**2


def test_digits_may_lie_anywhere():
    splits = megapixel(**SMALL | {"train": 400, "noise": 0, "digits": 2, "agree": 2})
    places = np.concatenate([canvas.places for canvas in canvases(splits.train)])
    # 1,600 coordinates from 0 to 184, uniform: each mean within 4 standard errors.
    assert places.min() < 3
    assert places.max() > 181
    np.testing.assert_allclose(places.mean(0), 92, atol=4 * 185 / 12**0.5 / 800**0.5)


def test_a_layout_that_leaves_no_room_is_made_anew():
    """Two squares on a canvas of 2.86 of their sides: the first may lie in the middle."""
    options = {"digits": 2, "agree": 2, "noise": 0, "size": 80, "digit_size": 28, "low_size": 20}
    splits = megapixel(train=2000, val=1, test=1, **options)
    for canvas in canvases(splits.train):
        assert np.abs(canvas.places[0] - canvas.places[1]).max() >= 28


def test_squares_that_never_fit_are_refused():
    pool = np.full((10, 30, 30), 255, np.uint8), np.arange(10)
    options = {"low_size": 10, "digits": 2, "agree": 2, "noise": 0, "seed": (0, 0), "name": "train"}
    images = MegapixelImages(*pool, 1, size=50, **options)
    with pytest.raises(ValueError, match="found no place for 2 squares of 30 pixels on 50"):
        images[0]


def assert_same_image(one, other):
    assert (one.bag_id, one.y) == (other.bag_id, other.y)
    assert torch.equal(one.low, other.low)
    whole = torch.zeros(1, 2, dtype=torch.int64)
    assert torch.equal(one.high.read(whole, (200, 200)), other.high.read(whole, (200, 200)))


def test_an_image_depends_on_seed_and_number_alone():
    first = megapixel(**SMALL, seed=4)
    longer = megapixel(**SMALL | {"train": 40, "val": 5, "test": 30}, seed=4)
    for name in SPLITS:
        part, other = getattr(first, name), getattr(longer, name)
        for i in reversed(range(min(len(part), len(other)))):  # in any order
            assert_same_image(part[i], other[i])
    assert_same_image(first.train[5], first.train[5])


def test_seeds_parts_and_numbers_give_other_images():
    places = [
        getattr(megapixel(**SMALL, seed=seed), name)[i].high.places
        for seed in (0, 1)
        for name in SPLITS
        for i in (0, 10)
    ]
    for one, other in combinations(places, 2):
        assert not np.array_equal(one, other)


def test_an_image_is_a_view_a_canvas_and_a_label():
    part = megapixel(**SMALL).val
    image = part[7]
    assert image.low.shape == (1, 40, 40)
    assert image.low.dtype == torch.float32
    assert 0 <= float(image.low.min()) < float(image.low.max()) <= 1
    torch.testing.assert_close(image.low, image.high.low((40, 40)))
    assert image.bag_id == image.high.name
    names = [part[i].bag_id for i in range(len(part))]
    assert len(set(names)) == 12
    assert all(name.startswith("val_") for name in names)
    with pytest.raises(IndexError):
        part[12]
    with pytest.raises(IndexError):
        part[-1]


def test_the_defaults_are_the_set_of_the_paper():
    splits = megapixel(train=1, val=1, test=1)
    image = splits.train[0]
    assert image.high.shape == (1, 1500, 1500)
    assert image.low.shape == (1, 180, 180)
    assert len(image.high.glyphs) == 55
    assert image.high.glyphs[0].shape == (28, 28)
    bright = [int(glyph.max()) for glyph in image.high.glyphs]
    assert min(bright) > 200  # strokes are as bright as digits
    inked = [float((glyph > 127).mean()) for glyph in image.high.glyphs]
    assert 0.02 < min(inked) < max(inked) < 0.4


def test_enlarged_digits_keep_their_light():
    small, large = (megapixel(**SMALL | {"digit_size": side, "noise": 0}) for side in (8, 24))
    for i in range(5):
        for one, other in zip(small.train[i].high.glyphs, large.train[i].high.glyphs, strict=True):
            assert other.shape == (24, 24)
            assert other.mean() == pytest.approx(one.mean(), rel=0.05)
            # Each pixel became nine: blocks of the large one follow the small one.
            blocks = other.reshape(8, 3, 8, 3).mean((1, 3))
            assert np.corrcoef(blocks.ravel(), one.ravel())[0, 1] > 0.97


def test_mnist_is_shown_pixel_by_pixel_at_its_own_size(mnist):
    (images, labels), *_ = mnist_pools(mnist)[0]
    splits = megapixel("mnist", mnist, train=30, val=1, test=1, size=160, low_size=40, noise=0)
    pool = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for i in range(30):
        glyphs = splits.train[i].high.glyphs
        assert [int(pool[glyph.tobytes()]) for glyph in glyphs[:3]] == [i % 10] * 3


def test_it_survives_pickling():
    part = megapixel(**SMALL).test
    assert_same_image(pickle.loads(pickle.dumps(part))[3], part[3])


def test_an_image_is_made_when_it_is_asked_for():
    splits = megapixel(train=10**6, val=1, test=1, size=10**6, low_size=4)
    image = splits.train[999_999]
    assert image.y == 9
    assert image.high.shape == (1, 10**6, 10**6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "letters"}, r"data\.source to be digits or mnist, got 'letters'"),
        ({"root": "here"}, r"no data\.root for the digits, got 'here'"),
        ({"agree": 1}, r"data\.agree from 2 to data\.digits, .* got agree=1 and digits=5"),
        ({"agree": 6}, r"got agree=6 and digits=5"),
        ({"digits": 12, "agree": 2}, r"at most 9 other digits, got agree=2 and digits=12"),
        ({"low_size": 0}, r"data\.low_size from 1 to data\.size.* got low_size=0"),
        ({"low_size": 201}, r"got low_size=201, size=200"),
        ({"digit_size": 1}, r"data\.digit_size of at least 2.*digit_size=1"),
        ({"noise": -1}, r"data\.noise and data\.seed of at least 0.*noise=-1"),
        ({"seed": -1}, r"seed=-1"),
        ({"train": 0}, r"data\.train of at least 1 image, got 0"),
        ({"val": -3}, r"data\.val of at least 1 image, got -3"),
        ({"test": 0}, r"data\.test of at least 1 image, got 0"),
        ({"test": 10**9}, r"data\.test as a whole number of at most 1,000,000, got"),
        (
            {"noise": 60},
            r"a canvas of which 5 digits and 60 strokes of 16 x 16 pixels cover at most a quarter, "
            r"got 200 x 200: raise data\.size",
        ),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        megapixel(**{**SMALL, **options})


def test_every_digit_is_needed():
    images, labels = np.zeros((8, 4, 4), np.uint8), np.array([0, 1, 2, 4, 5, 6, 8, 9])
    options = {"size": 20, "low_size": 5, "digits": 2, "agree": 2, "noise": 0, "seed": (0, 0)}
    with pytest.raises(ValueError, match=r"^val: .* digits 0 to 9, got none of \[3, 7\]$"):
        MegapixelImages(images, labels, 5, **options, name="val")


def test_missing_and_damaged_files_are_named(mnist, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte: .*data\.root=FOLDER"):
        megapixel("mnist", tmp_path, **SMALL)
    for path in mnist.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "train-labels-idx1-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"^{damaged}: .*truncated"):
        megapixel("mnist", tmp_path, **SMALL)
