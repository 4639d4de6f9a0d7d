"""How a run was started, which its config does not tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from milforge.processes.signal_numbers import GOES_ON


@dataclass(frozen=True)
class Launch:
    """How a run was started.

    Args:
        overrides: of the command line; written beside the config.
        in_sweep: whether it is a job of a sweep.
        by_slurm: whether SLURM started the processes of the job.
        choices: the chosen option of each group of configs.
        again: how it goes on where it is interrupted, as a clause for the user.
    """

    overrides: tuple[str, ...] = ()
    in_sweep: bool = False
    by_slurm: bool = False
    choices: Mapping[str, str] = field(default_factory=dict)
    again: str = GOES_ON
