"""Bags of digits with outcomes of a known law."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from milforge.data import digits_survival
from milforge.data.examples.digits import digit_pools
from milforge.functional import concordance_index, kaplan_meier


def shares(part):
    return torch.stack([part[i].y_inst.float().mean() for i in range(len(part))])


@cache
def outcomes(**options):
    names = ("time", "event", "value", "grade", "high")
    splits = digits_survival(train=1, val=1, test=1500, label_column=names, **options)
    y = dict(zip(names, splits.test.labels.unbind(1), strict=True))
    if splits.covariates:
        y["age"] = torch.tensor([float(text) for text in splits.covariates["age"][2:]])
    return shares(splits.test), y


def test_times_follow_the_hazard_of_the_share():
    """The cumulative hazard at the time of an event is exponential; of censored ones it is cut."""
    share, y = outcomes(follow_up=1e6)
    assert y["event"].mean() > 0.999
    hazard = (y["time"] / 60) ** 1.5 * torch.exp(3 * share)
    assert kstest(hazard.numpy(), "expon").pvalue > 0.01
    turned = (y["time"] / 60) ** 1.5 * torch.exp(-3 * share)
    assert kstest(turned.numpy(), "expon").pvalue < 1e-6


def test_an_age_shortens_the_time_and_nothing_else():
    share, y = outcomes(follow_up=1e6, age_effect=1.0)
    older = (y["age"] - 60) / 10
    assert kstest(older.numpy(), "norm").pvalue > 0.01
    hazard = (y["time"] / 60) ** 1.5 * torch.exp(3 * share + older)
    assert kstest(hazard.numpy(), "expon").pvalue > 0.01
    same, plain = outcomes(follow_up=1e6)
    assert "age" not in plain
    assert torch.equal(same, share)
    for name in ("value", "grade", "high"):
        assert torch.equal(y[name], plain[name])


def test_censoring_is_uniform_and_knows_nothing():
    _, y = outcomes()
    assert 0.5 < y["event"].mean() < 0.8
    steps = kaplan_meier(y["time"], y["event"], of_censoring=True)
    at = torch.tensor([15.0, 30.0, 45.0])
    torch.testing.assert_close(steps.at(at), 1 - at.double() / 60, atol=0.05, rtol=0)
    assert y["time"].max() <= 60


def test_no_risk_orders_the_times_better_than_the_share():
    share, y = outcomes()
    best = concordance_index(share, y["time"], y["event"])
    assert 0.68 < best < 0.76
    generator = torch.Generator().manual_seed(0)
    for noise in (0.2, 1.0):
        risk = share + noise * torch.randn(len(share), generator=generator)
        assert concordance_index(risk, y["time"], y["event"]) < best


def test_values_and_grades_are_the_share_and_noise():
    share, y = outcomes()
    rest = (y["value"] / 10 - share).numpy()
    assert kstest(rest / 0.15, "norm").pvalue > 0.01
    share, exact = outcomes(noise=0.0)
    torch.testing.assert_close(exact["value"], 10 * share)
    assert torch.equal(exact["high"], (share > 0.5).float())
    assert exact["grade"].tolist() == np.searchsorted([0.25, 0.5, 0.75], share.numpy()).tolist()


def test_columns_parts_and_seeds():
    options = {"train": 5, "val": 3, "test": 4}
    both = digits_survival(**options)
    alone = digits_survival(**options, label_column="grade")
    every = digits_survival(**options, label_column=["grade", "event", "time"])
    assert torch.equal(both.train.labels, every.train.labels[:, [2, 1]])
    assert torch.equal(alone.train.labels, every.train.labels[:, 0])
    assert (alone.class_names, every.class_names) == ((), ("grade", "event", "time"))
    assert len(both.val) == 3
    longer = digits_survival(train=9)
    assert torch.equal(longer.train.labels[:5], both.train.labels)
    assert torch.equal(longer.train[4].x, both.train[4].x)
    assert not torch.equal(digits_survival(**options, seed=1).train.labels, both.train.labels)
    images, digits = digit_pools()[2]
    bag = both.test[0]
    known = {image.tobytes(): int(digit) for image, digit in zip(images, digits, strict=True)}
    pixels = (bag.x[:, 0] * 16).round().to(torch.uint8).numpy()
    assert [known[each.tobytes()] == 9 for each in pixels] == bag.y_inst.bool().tolist()


def test_missing_outcomes_are_of_training_bags_alone():
    names = ["time", "event", "value", "grade"]
    splits = digits_survival(train=400, label_column=names, missing=0.5)
    gaps = splits.train.labels.isnan()
    assert torch.equal(gaps[:, 0], gaps[:, 1])
    assert ((gaps.float().mean(0) > 0.4) & (gaps.float().mean(0) < 0.6)).all()
    assert (gaps[:, 1] ^ gaps[:, 2]).any()
    assert not splits.test.labels.isnan().any()
    whole = digits_survival(train=400, label_column=names).train.labels
    assert torch.equal(splits.train.labels[~gaps], whole[~gaps])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "age"}, "label_column among time, event, value, grade, high, each once"),
        ({"label_column": ["time", "time"]}, "each once, got time, time"),
        ({"train": 0}, "data.train of at least 1, got 0"),
        ({"missing": 1.0}, "data.missing from 0 to below 1, got 1"),
        ({"follow_up": 0}, "data.follow_up of at least 0.001, got 0"),
        ({"noise": -1}, "data.noise, data.sd_size and data.seed of at least 0, got -1"),
        ({"mean_size": 400}, "lower data.mean_size"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        digits_survival(**{"train": 20, "val": 2, "test": 2} | options)
