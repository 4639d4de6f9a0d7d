"""What the processes of a run send each other."""

from typing import Any

import torch


def gathered(value: Any, world_size: int) -> list[Any]:
    """The values of all processes, in each."""
    if world_size == 1:
        return [value]
    values: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(values, value)
    return values


def check_same_step(step: int, world_size: int) -> None:
    """Checks that all processes begin at the same step.

    Raises:
        ValueError: where some found a checkpoint that others do not see.
    """
    steps = gathered(step, world_size)
    if len(set(steps)) > 1:
        raise ValueError(
            f"expected all processes to begin at the same step, got {steps}: the folder of the "
            "run (paths.log_dir) must be on a file system that all machines share"
        )
