import pickle
import subprocess
import sys
import time
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from milforge.data import ImageBags, collate_bags, draw_bags
from thinned import thinned

LABELS = np.random.default_rng(7).permutation(np.repeat(np.arange(10), [60] * 9 + [40]))


def draw(count=40, labels=LABELS, **options):
    defaults = {"target": 9, "mean_size": 10, "sd_size": 2, "sampling": "balanced", "seed": 0}
    return draw_bags(labels, count, **{**defaults, **options})


def holds(bag, target=9, labels=LABELS):
    return bool((labels[bag] == target).any())


def same(first, second):
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def chi_square_p(observed, probabilities):
    """P value of the counts, cells that expect fewer than five joined with their neighbour."""
    expected = np.asarray(probabilities) * np.sum(observed)
    order = np.argsort(-expected)
    observed, expected = np.asarray(observed)[order], expected[order]
    head = max(1, int((expected >= 5).sum()))
    if expected[head:].sum() > 0:
        observed = np.append(observed[:head], observed[head:].sum())
        expected = np.append(expected[:head], expected[head:].sum())
    return stats.chisquare(observed, expected).pvalue


sampling_of = pytest.mark.parametrize("sampling", ["balanced", "plain"])


@sampling_of
def test_seed_decides(sampling):
    assert same(draw(sampling=sampling, seed=3), draw(sampling=sampling, seed=3))
    assert not same(draw(sampling=sampling, seed=3), draw(sampling=sampling, seed=4))


@given(
    seed=st.integers(0, 2**40),
    counts=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    sampling=st.sampled_from(["balanced", "plain"]),
    mean_size=st.floats(1, 40),
    sd_size=st.floats(0, 10),
)
def test_laws(seed, counts, sampling, mean_size, sd_size):
    short, long = sorted(counts)
    options = {"sampling": sampling, "mean_size": mean_size, "sd_size": sd_size, "seed": seed}
    bags = draw(long, **options)
    assert len(bags) == long
    assert same(draw(short, **options), bags[:short])
    for bag in bags:
        assert bag.dtype == np.int64
        assert len(bag) >= 1
        assert len(np.unique(bag)) == len(bag)
        assert bag.min() >= 0
        assert bag.max() < len(LABELS)
    if sampling == "balanced":
        assert sum(map(holds, bags)) == long // 2


@pytest.mark.parametrize("mean_size", [1, 200])
def test_balance_is_exact_at_any_size(mean_size):
    for count in (1, 2, 3, 50, 51):
        assert sum(map(holds, draw(count, mean_size=mean_size, sd_size=0))) == count // 2


@sampling_of
def test_size_is_the_rounded_normal(sampling):
    sizes = np.array([len(bag) for bag in draw(4000, mean_size=4, sd_size=2, sampling=sampling)])
    edges = stats.norm(4, 2).cdf(np.arange(1.5, 10.5))
    probabilities = np.diff([0, *edges, 1])
    observed = np.bincount(sizes.clip(max=10), minlength=11)[1:]
    assert chi_square_p(observed, probabilities) > 1e-3


def test_fixed_size():
    assert {len(bag) for bag in draw(mean_size=3, sd_size=0)} == {3}
    assert {len(bag) for bag in draw(mean_size=7.4, sd_size=0)} == {7}


def test_size_tells_nothing_about_the_label():
    bags = draw(4000, mean_size=3, sd_size=2)
    sizes = np.array([len(bag) for bag in bags]).clip(max=8)
    positive = np.array([holds(bag) for bag in bags])
    table = [np.bincount(sizes[positive == sign], minlength=9)[1:] for sign in (False, True)]
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("size", thinned([2, 1, 4]))
def test_positive_bags_are_a_plain_draw_given_a_target(size):
    labels = np.array([9, 0, 1, 9, 2, 3, 9, 4])
    targets = set(np.flatnonzero(labels == 9).tolist())
    outcomes = [set(c) for c in combinations(range(8), size) if targets & set(c)]
    bags = [set(b.tolist()) for b in draw(12000, labels=labels, mean_size=size, sd_size=0)[1::2]]
    observed = [bags.count(outcome) for outcome in outcomes]
    assert sum(observed) == 6000
    assert chi_square_p(observed, np.full(len(outcomes), 1 / len(outcomes))) > 1e-3


@pytest.mark.parametrize("hits", thinned([60, 3, 400]))
def test_number_of_targets_is_the_conditioned_hypergeometric(hits):
    labels = np.where(np.arange(600) < hits, 9, 0)
    bags = draw(6000, labels=labels, mean_size=10, sd_size=0)[1::2]
    observed = np.bincount([int((labels[bag] == 9).sum()) for bag in bags], minlength=11)
    law = stats.hypergeom(600, hits, 10)
    assert observed[0] == 0
    assert chi_square_p(observed[1:], law.pmf(np.arange(1, 11)) / law.sf(0)) > 1e-3


def test_negative_bags_draw_the_other_images_uniformly():
    labels = np.array([9, 0, 1, 9, 2, 3, 9, 4])
    bags = draw(8000, labels=labels, mean_size=2, sd_size=0)[::2]
    observed = np.bincount(np.concatenate(bags), minlength=8)
    assert observed[labels == 9].tolist() == [0, 0, 0]
    assert chi_square_p(observed[labels != 9], np.full(5, 1 / 5)) > 1e-3


@sampling_of
def test_targets_stand_anywhere_in_the_bag(sampling):
    bags = draw(8000, mean_size=5, sd_size=0, sampling=sampling)
    hits = np.sum([LABELS[bag] == 9 for bag in bags], axis=0)
    assert chi_square_p(hits, np.full(5, 1 / 5)) > 1e-3


def test_plain_bags_of_three_as_in_the_keras_example():
    bags = draw(20000, mean_size=3, sd_size=0, sampling="plain", target=0)
    share = np.mean([holds(bag, 0) for bag in bags])
    expected = stats.hypergeom(len(LABELS), 60, 3).sf(0)
    assert expected == pytest.approx(0.28, abs=0.01)
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 20000))


def test_a_rare_target_among_many_images():
    labels = np.zeros(100_000, dtype=np.int64)
    labels[77] = 9
    bags = draw(20, labels=labels)
    assert [77 in bag for bag in bags] == [False, True] * 10


def test_bags_may_use_up_the_images():
    labels = np.array([9, 9, 0, 0, 0])
    bags = draw(2, labels=labels, mean_size=3, sd_size=0)
    assert sorted(bags[0].tolist()) == [2, 3, 4]
    assert holds(bags[1], labels=labels)
    plain = draw(1, labels=labels, mean_size=5, sd_size=0, sampling="plain")
    assert sorted(plain[0].tolist()) == [0, 1, 2, 3, 4]


@sampling_of
def test_a_thousand_bags_in_less_than_a_second(sampling):
    labels = np.random.default_rng(0).integers(0, 10, 60_000)
    draw(2, labels=labels, sampling=sampling)  # imports SciPy
    start = time.process_time()
    draw(1000, labels=labels, sampling=sampling)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count of at least 1 bag, got 0"),
        ({"count": 10**9}, "a count as a whole number of at most 1,000,000, got 1000000000"),
        ({"count": 1e9}, "a count as a whole number of at most 1,000,000, got 1000000000.0"),
        ({"mean_size": 0.9}, "mean_size of at least 1, got 0.9"),
        ({"mean_size": float("nan")}, "mean_size of at least 1, got nan"),
        ({"mean_size": float("inf")}, "mean_size of at least 1, got inf"),
        ({"sd_size": -1}, "sd_size of at least 0, got -1"),
        ({"sd_size": float("nan")}, "sd_size of at least 0, got nan"),
        ({"seed": -1}, "seed of at least 0, got -1"),
        ({"sampling": "even"}, r"sampling .*'balanced', 'plain'.*got 'even'"),
        ({"target": 12}, r"among the labels .*\[0, 1, 2, .*9\], got \[12\]"),
        ({"target": [3, 12], "sampling": "plain"}, r"got \[12\]: choose a target that occurs"),
        ({"target": [3, 9]}, r"single target for balanced .*\[3, 9\].*sampling=plain"),
        ({"target": [9]}, "single target for balanced"),
        ({"target": [], "sampling": "plain"}, r"a list of distinct ones, got \[\]"),
        ({"target": [3, 3], "sampling": "plain"}, r"a list of distinct ones, got \[3, 3\]"),
        ({"mean_size": 541, "sd_size": 0}, "at most 540 images, .*no target, got a size of 541"),
        (
            {"mean_size": 581, "sd_size": 0, "sampling": "plain"},
            "at most 580 images, .*in all, got a size of 581: lower mean_size",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)


IMAGES = torch.arange(len(LABELS) * 6).reshape(-1, 2, 3).float() / (len(LABELS) * 6)
IMAGE_LABELS = torch.from_numpy(LABELS)


def make(target=9, sampling="balanced", count=30, **options):
    indices = draw(count, target=target, sampling=sampling, **options)
    return ImageBags(IMAGES, IMAGE_LABELS, indices, target, "val"), indices


@sampling_of
def test_binary_bags(sampling):
    bags, indices = make(sampling=sampling, mean_size=4)
    assert len(bags) == 30
    assert bags.labels.dtype == torch.int64
    for i, bag in enumerate(bags):
        torch.testing.assert_close(bag.x, IMAGES[indices[i]][:, None], rtol=0, atol=0)
        assert bag.x.dtype == torch.float32
        assert bag.y_inst.dtype == torch.int64
        assert bag.y_inst.tolist() == [int(LABELS[k] == 9) for k in indices[i]]
        assert type(bag.y) is int
        assert bag.y == max(bag.y_inst.tolist()) == bags.labels[i]
        assert bag.bag_id == f"val_{i:04d}"
    assert i == 29
    assert set(bags.labels.tolist()) == {0, 1}


@given(
    target=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 1000),
)
def test_multilabel_bags(target, seed):
    bags, indices = make(target=target, sampling="plain", count=5, mean_size=4, seed=seed)
    assert bags.labels.shape == (5, len(target))
    assert bags.labels.dtype == torch.int64
    for i, bag in enumerate(bags):
        digits = [int(LABELS[k]) for k in indices[i]]
        assert bag.y.dtype == torch.int64
        assert bag.y.tolist() == [int(digit in digits) for digit in target]
        assert bag.y.tolist() == bags.labels[i].tolist()
        assert bag.y_inst.tolist() == [int(digit in target) for digit in digits]
        assert bag.y_inst.max() == bag.y.max()


def test_bags_of_one_batch():
    bags, _ = make(count=3)
    batch = collate_bags(list(bags))
    assert batch.x.shape[1:] == (1, 2, 3)
    assert batch.y.tolist() == [0, 1, 0]
    multilabel, _ = make(target=[3, 9], sampling="plain", count=3)
    assert collate_bags(list(multilabel)).y.shape == (3, 2)


def test_numbers_of_bags():
    bags, _ = make(count=3)
    assert bags[-1].bag_id == "val_0002"
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"val: .*below 3, got {index}"):
            bags[index]


def test_a_copy_in_a_worker_gives_the_same_bags():
    bags, _ = make(count=4)
    for bag, copy in zip(bags, pickle.loads(pickle.dumps(bags)), strict=True):
        assert torch.equal(bag.x, copy.x)
        assert (bag.y, bag.bag_id) == (copy.y, copy.bag_id)


@pytest.mark.parametrize(
    ("images", "image_labels", "indices", "message"),
    [
        (IMAGES[:, None], IMAGE_LABELS, [np.array([0])], r"train: .*\(M, H, W\).*\(580, 1, 2, 3\)"),
        (IMAGES.byte(), IMAGE_LABELS, [np.array([0])], "train: .*float32.*uint8: scale them"),
        (IMAGES, IMAGE_LABELS[1:], [np.array([0])], r"train: expected 580 image labels.*\(579,\)"),
        (IMAGES, IMAGE_LABELS, [], "train: expected at least one bag"),
    ],
)
def test_parts_that_do_not_fit(images, image_labels, indices, message):
    with pytest.raises(ValueError, match=message):
        ImageBags(images, image_labels, indices, 9, "train")


@pytest.mark.nightly
def test_import_is_lean():
    code = "import sys, milforge.data; print({'scipy.stats', 'sklearn'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
