"""What a checkpoint must hold, and in which sizes."""

import copy

import pytest
import torch

from milforge.config.checkpoints.checkpoint_content import check_content, name_odd_values

GOOD = {
    "epoch": 3,
    "pytorch-lightning_version": "2.6.6",
    "global_step": 12,
    "state_dict": {"network.weight": torch.zeros(2, 3), "standardise.mean": torch.zeros(3)[1:]},
    "milforge": {
        "config": {"seed": 3},
        "instance_shape": [1, 8, 8],
        "feature_names": [],
        "standardised": False,
        "task": {"kind": "binary"},
        "class_names": ["no", "yes"],
        "split": None,
        "covariates": None,
        "fingerprints": {"train": {"labels": "0a"}, "val": {}},
        "history": {"val/loss": [(0, 0.5), [1, 0.25]]},
        "seen": [{"loss": torch.zeros(2)}],
    },
}


def test_what_a_run_writes_is_right():
    check_content(GOOD, "a.ckpt")
    more = copy.deepcopy(GOOD)
    more["milforge"] |= {
        "instance_shape": {"a": [3], "b": [4]},
        "split": {"train": ["a"], "val": [], "test": ["b"]},
        "covariates": [{"name": "age", "mean": 3.0, "std": 1}, {"name": "sex", "values": ["f"]}],
        "num_covariates": 2,
    }
    check_content(more, "a.ckpt")


@pytest.mark.parametrize("key", sorted(GOOD["milforge"]))
def test_a_missing_key_is_named(key):
    damaged = copy.deepcopy(GOOD)
    del damaged["milforge"][key]
    with pytest.raises(ValueError, match=f"^a.ckpt lacks the key 'milforge.{key}'"):
        check_content(damaged, "a.ckpt")


ODD = [None, True, -1, 2**60, 1.5, "x", [], [None], {}, {"a": None}, {3: 4}, torch.zeros(1)]
RIGHT = {
    "config": ({}, {"a": None}),
    "instance_shape": ([],),
    "feature_names": ([],),
    "standardised": (True,),
    "task": ({}, {"a": None}),
    "class_names": ([],),
    "split": (None,),
    "covariates": (None, []),
    "fingerprints": ({},),
    "history": ({},),
    "seen": ([],),
}


@pytest.mark.parametrize("key", sorted(GOOD["milforge"]))
def test_an_odd_value_is_named(key):
    for value in ODD:
        if any(
            value is each or (type(value) is type(each) and value == each) for each in RIGHT[key]
        ):
            continue
        damaged = {**GOOD, "milforge": {**GOOD["milforge"], key: value}}
        with pytest.raises(ValueError, match=f"^a.ckpt holds .* as 'milforge.{key}', expected"):
            check_content(damaged, "a.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": None},
        {"epoch": -1},
        {"epoch": True},
        {"pytorch-lightning_version": None},
        {"global_step": 1.0},
        {"global_step": 2**60},
        {"state_dict": [1]},
        {"state_dict": {"a": 3}},
        {"state_dict": {3: torch.zeros(1)}},
        {"state_dict": {"a": torch.zeros(1).expand(2**40)}},
        {"state_dict": {"a": torch.zeros(2, 2).to_sparse()}},
    ],
    ids=str,
)
def test_odd_weights_and_steps_are_told(change):
    with pytest.raises(ValueError, match=r"^a.ckpt holds .*it is damaged"):
        check_content({**GOOD, **change}, "a.ckpt")


@pytest.mark.parametrize(
    "shape", [[10**9], [10**5, 10**5], {"a": [2**70]}, [0], [-3], [1.0], [True]]
)
def test_a_shape_of_absurd_size_is_told(shape):
    damaged = {**GOOD, "milforge": {**GOOD["milforge"], "instance_shape": shape}}
    with pytest.raises(ValueError, match=r"as 'milforge.instance_shape', expected the sizes"):
        check_content(damaged, "a.ckpt")


def test_errors_that_no_user_was_meant_to_see_are_a_sentence():
    for error in (KeyError("x"), TypeError("y"), RuntimeError("z\nmore"), ZeroDivisionError()):
        told = pytest.raises(ValueError, match=r"^a.ckpt holds values .*shows where$")
        with told, name_odd_values("a.ckpt"):
            raise error
    with pytest.raises(OSError, match=r"^disk$"), name_odd_values("a.ckpt"):
        raise OSError("disk")


@pytest.mark.parametrize("value", [None, True, -1, 10**9, 1.5, "2"])
def test_an_odd_number_of_covariates_is_named(value):
    damaged = {**GOOD, "milforge": {**GOOD["milforge"], "num_covariates": value}}
    with pytest.raises(ValueError, match=r"holds .* as 'milforge.num_covariates', expected a num"):
        check_content(damaged, "a.ckpt")
