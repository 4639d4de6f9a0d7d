"""What is not finite ends a run with a sentence."""

from math import inf, nan

import pytest
import torch

from milforge.training.loss.finite import check_monitor


@pytest.mark.parametrize(
    ("monitor", "values", "why"),
    [
        ("val/inst_auroc", {}, "no positive val bag has labels of both kinds"),
        ("train/inst_ap", {"train/loss": 1.0}, "no positive train bag has labels"),
        ("val/pearson", {"val/pearson": nan}, "its value is NaN"),
    ],
)
def test_a_monitor_that_never_had_a_value_ends_the_run(monitor, values, why):
    values = {name: torch.tensor(value) for name, value in values.items()}
    for before in ([], [nan], [inf]):
        with pytest.raises(ValueError, match="so it cannot choose an epoch") as told:
            check_monitor(monitor, values, before)
        assert str(told.value).startswith(f"monitor={monitor} is not defined ({why}")
    check_monitor(monitor, values, [nan, 0.5])


def test_a_value_or_one_that_another_stage_gives_is_right():
    check_monitor("val/loss", {"val/loss": torch.tensor(2.0)}, [])
    check_monitor("val/sm_alpha", {}, [])
