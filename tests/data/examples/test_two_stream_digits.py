import pickle

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from sklearn.linear_model import LogisticRegression

from milforge.data import SPLITS, collate_bags, digits_bags, two_stream_digits
from milforge.data.examples.digits import digit_pools
from milforge.data.examples.two_stream_digits import image_gradient

SMALL = {"train": 12, "val": 6, "test": 6}
SOBEL = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])


def parts(splits):
    return [getattr(splits, name) for name in SPLITS]


def table(bags, name):
    return torch.cat([bag.x[name] for bag in bags]).numpy()


def slopes(image):
    return [correlate2d(image, kernel, mode="same") for kernel in (SOBEL, SOBEL.T)]


def test_gradients_are_those_of_the_sobel_kernels():
    images = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    expected = [np.concatenate([each.ravel() for each in slopes(image)]) for image in images]
    np.testing.assert_allclose(image_gradient(images), expected, rtol=1e-5, atol=1e-6)


def test_a_slope_of_a_plane_is_eight_times_its_slope():
    plane = np.add.outer(2.0 * np.arange(5), 3.0 * np.arange(5)).astype(np.float32)
    down, along = image_gradient(plane[None]).reshape(2, 5, 5)
    assert (down[1:-1, 1:-1] == 16).all()
    assert (along[1:-1, 1:-1] == 24).all()


def test_the_bags_are_those_of_digits_bags():
    options = {**SMALL, "target": 4, "mean_size": 5, "seed": 3}
    found, expected = two_stream_digits(**options), digits_bags(**options)
    assert found.class_names == expected.class_names
    for part, other in zip(parts(found), parts(expected), strict=True):
        assert torch.equal(part.labels, other.labels)
        assert len(part) == len(other)
        for i in range(len(part)):
            assert part[i].bag_id == other[i].bag_id
            assert part[i].y == other[i].y
            assert torch.equal(part[i].y_inst, other[i].y_inst)
            assert {name: tuple(x.shape) for name, x in part[i].x.items()} == {
                "pixels": (len(other[i]), 64),
                "gradient": (len(other[i]), 128),
            }


def test_without_noise_the_streams_are_the_scaled_views():
    options = {**SMALL, "seed": 1}
    found = two_stream_digits(**options, pixel_noise=0, gradient_noise=0)
    known = digit_pools()[0][0] / 16
    known_slopes = np.array([slopes(image) for image in known])
    for part, other in zip(parts(found), parts(digits_bags(**options)), strict=True):
        images = torch.cat([bag.x for bag in other])[:, 0].double().numpy()
        pixels = (images - known.mean()) / known.std()
        np.testing.assert_allclose(table(part, "pixels"), pixels.reshape(-1, 64), atol=1e-5)
        gradient = np.array([slopes(image) for image in images])
        gradient = (gradient - known_slopes.mean()) / known_slopes.std()
        np.testing.assert_allclose(table(part, "gradient"), gradient.reshape(-1, 128), atol=1e-5)


def test_both_streams_have_mean_0_and_deviation_1_for_any_noise():
    options = {"train": 300, "val": 2, "test": 2, "sampling": "plain"}
    for noises in ((0.3, 3.0), (2.0, 0.0)):
        bags = two_stream_digits(**options, pixel_noise=noises[0], gradient_noise=noises[1]).train
        for name in ("pixels", "gradient"):
            x = table(bags, name)
            assert x.dtype == np.float32
            assert x.mean() == pytest.approx(0, abs=0.02)
            assert x.std() == pytest.approx(1, abs=0.02)


def test_noise_is_normal_of_its_own_for_each_value_and_of_the_size_that_is_said():
    options = {"train": 100, "val": 2, "test": 2}
    clean, noisy = (
        two_stream_digits(**options, pixel_noise=p, gradient_noise=g).train
        for p, g in ((0, 0), (0.5, 2.0))
    )
    drawn = {}
    for name, sigma in (("pixels", 0.5), ("gradient", 2.0)):
        restored = table(noisy, name) * np.sqrt(1 + sigma**2)
        drawn[name] = (restored - table(clean, name)) / sigma
        assert drawn[name].std() == pytest.approx(1, abs=0.01)
        assert (drawn[name] ** 4).mean() == pytest.approx(3, abs=0.1)  # as the normal has it
        between = np.corrcoef(drawn[name][:50])
        assert np.abs(between - np.eye(50)).max() < 0.6
    shared = np.corrcoef(drawn["pixels"].ravel(), drawn["gradient"][:, :64].ravel())[0, 1]
    assert abs(shared) < 0.02


def test_a_stream_alone_is_what_it_is_beside_the_other():
    both = two_stream_digits(**SMALL, seed=2)
    turned = two_stream_digits(**SMALL, seed=2, streams=["gradient", "pixels"])
    for name in ("pixels", "gradient"):
        alone = two_stream_digits(**SMALL, seed=2, streams=[name])
        for a, b, c in zip(*map(parts, (alone, both, turned)), strict=True):
            for i in range(len(a)):
                assert torch.equal(a[i].x, b[i].x[name])
                assert torch.equal(a[i].x, c[i].x[name])
    assert collate_bags([alone.train[0], alone.train[1]]).x.shape[1:] == (128,)


def test_a_bag_depends_on_the_seed_and_its_number_alone():
    short, long = (two_stream_digits(train=n, val=2, test=2, seed=5) for n in (4, 9))
    other = two_stream_digits(train=4, val=4, test=4, seed=6)
    for i in range(4):
        for name in ("pixels", "gradient"):
            assert torch.equal(short.train[i].x[name], long.train[i].x[name])
            assert torch.equal(short.train[i].x[name], short.train[i].x[name])
    # The noise of no two bags is the same: neither over seeds nor over parts.
    loud = two_stream_digits(train=4, val=4, test=4, seed=5, pixel_noise=1e4)
    other = two_stream_digits(train=4, val=4, test=4, seed=6, pixel_noise=1e4)
    first = [bag.x["pixels"][0] for s in (loud, other) for part in parts(s) for bag in part]
    correlations = np.corrcoef(torch.stack(first)) - np.eye(len(first))
    assert np.abs(correlations).max() < 0.7


def test_the_pixels_are_the_better_stream_and_the_gradient_is_of_use():
    """The digits according to another classifier, of single images."""
    options = {"train": 300, "val": 2, "test": 300, "sampling": "plain", "target": 9}
    splits = two_stream_digits(**options, pixel_noise=0.8, gradient_noise=2.0)
    accuracy = {}
    for name in ("pixels", "gradient"):
        x, y = table(splits.train, name), torch.cat([bag.y_inst for bag in splits.train])
        fit = LogisticRegression(C=0.01, class_weight="balanced").fit(x, y)
        scores = fit.decision_function(table(splits.test, name))
        truth = torch.cat([bag.y_inst for bag in splits.test]).numpy()
        above = scores[truth == 1][:, None] > scores[truth == 0]
        accuracy[name] = above.mean()
    assert 0.6 < accuracy["gradient"] < accuracy["pixels"] - 0.03 < 0.97


def test_bags_go_to_worker_processes():
    bags = two_stream_digits(**SMALL).val
    again = pickle.loads(pickle.dumps(bags))
    assert torch.equal(again[1].x["gradient"], bags[1].x["gradient"])
    with pytest.raises(IndexError):
        bags[6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": []}, r"^expected streams to be pixels or gradient or both, got \[\]"),
        ({"streams": ["pixel"]}, r"got \['pixel'\]"),
        ({"streams": ["pixels", "pixels"]}, "got"),
        ({"pixel_noise": -1}, "^expected noise of at least 0 on pixels, got -1"),
        ({"gradient_noise": float("inf")}, "^expected noise of at least 0 on gradient, got inf"),
        ({"target": 12}, r"^train: .*got \[12\]"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        two_stream_digits(**{**SMALL, **options})
