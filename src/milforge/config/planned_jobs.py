"""How many jobs a sweep is to have."""

import math
from itertools import islice
from pathlib import Path
from typing import Any

from milforge.runs.read_files import read_yaml

_MOST_JOBS = 100_000
_LONGEST = 20_000  # characters of a command line; Hydra reads a longer one for minutes


def planned_jobs(sweep: Path) -> int:
    """How many jobs a sweep is to have; 0 where its `multirun.yaml` does not say, or is absurd."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        hydra = read_yaml(sweep / "multirun.yaml")["hydra"]
        sweeper, overrides = hydra["sweeper"], hydra["overrides"]["task"]
        if sweeper.get("n_trials"):
            trials = int(sweeper["n_trials"])
            return trials if 0 < trials <= _MOST_JOBS else 0
        params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
        if sum(map(len, (*params, *overrides))) > _LONGEST:
            return 0
        parsed = OverridesParser.create().parse_overrides([*params, *overrides])
        choices = {
            each.get_key_element(): _count(each) for each in parsed if each.is_sweep_override()
        }
    except (
        *(HydraException, ArithmeticError, LookupError, RuntimeError, OSError),  # a damaged file
        *(ValueError, TypeError, AttributeError),  # a glob or interval, which has no number
    ):
        return 0
    jobs = math.prod(choices.values())
    return jobs if jobs <= _MOST_JOBS else 0


def _count(override: Any) -> int:
    """How many values a key runs over; a long range is not written out to be counted."""
    value = override.value()
    if all(hasattr(value, name) for name in ("start", "stop", "step")):
        many = abs((value.stop - value.start) / value.step)
        if not many <= _MOST_JOBS:
            raise ValueError(f"expected at most {_MOST_JOBS} jobs, got {many}")
    return len(list(islice(override.sweep_string_iterator(), _MOST_JOBS + 1)))
