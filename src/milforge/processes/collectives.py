"""What the processes of a run send each other."""

from typing import Any

import torch
from torch import Tensor


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


def gather_rows(rows: Tensor) -> tuple[Tensor, slice]:
    """The rows of all processes one below the other, with gradient.

    The gradient of a row is the sum of those that all processes have for it, so that a loss of all
    rows can be shared out: each process sums its own part. Every process has to call it, and to
    go backward through it, with no rows too.

    Args:
        rows: `(n, ...)`, of which n may differ between processes.

    Returns:
        `(N, ...)` of all in the order of the processes, and where those of this one stand.
    """
    counts = gathered(len(rows), torch.distributed.get_world_size())
    start = sum(counts[: torch.distributed.get_rank()])
    everywhere: Tensor = _GatherRows.apply(rows, counts)  # type: ignore[no-untyped-call]
    return everywhere, slice(start, start + len(rows))


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])  # all are to be of one shape
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        everywhere = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(everywhere)
        rank = torch.distributed.get_rank()
        return torch.split(everywhere, ctx.counts)[rank], None
