"""What trackers learn of a run."""

import pytest
from omegaconf import OmegaConf

from milforge.api.tracking import run_name, tracked_config


@pytest.mark.parametrize(
    ("split", "choices", "expected"),
    [
        (
            {"fold": 2},
            {"model": "sm_abmil", "data": "feature_bags", "loss": "task"},
            "feature_bags sm_abmil fold 2 seed 7",
        ),
        ({}, {"model": "abmil", "data": "digits", "loss": "focal"}, "digits abmil focal seed 7"),
        (None, {"experiment": "musk1", "data": "x", "model": "abmil"}, "musk1 x abmil seed 7"),
        ({"fold": 0}, {}, None),
    ],
)
def test_the_name_of_a_run(split, choices, expected):
    assert run_name(OmegaConf.create({"seed": 7, "split": split}), choices) == expected


def test_no_folder_of_the_run_is_among_the_config_keys():
    config = OmegaConf.create(
        {
            "seed": 1,
            "paths": {"output_dir": "/runs/a", "log_dir": "/runs"},
            "callbacks": {"figures": {"folder": "${paths.output_dir}/figures", "bags": 3}},
            "data": {"root": "/data/bags", "seed": "${seed}"},
            "tags": ["a"],
        }
    )
    told = tracked_config(config, {"model": "abmil"}, ["seed=1"], {"parameters": 9})
    assert told == {
        "seed": 1,
        "callbacks": {"figures": {"bags": 3}},
        "data": {"root": "/data/bags", "seed": 1},
        "tags": ["a"],
        "choice/model": "abmil",
        "overrides": ["seed=1"],
        "parameters": 9,
    }
