"""How a run was started, which its config does not tell."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """How a run was started.

    Args:
        overrides: of the command line; written beside the config.
        in_sweep: whether it is a job of a sweep.
        by_slurm: whether SLURM started the processes of the job.
    """

    overrides: tuple[str, ...] = ()
    in_sweep: bool = False
    by_slurm: bool = False
