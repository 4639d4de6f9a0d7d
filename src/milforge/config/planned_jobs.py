"""How many jobs a sweep is to have."""

import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads keys and values; a `ValueError` says that the file is damaged."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except OSError:
        raise
    except Exception as error:  # the parser has many
        raise ValueError(f"{path.name} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is damaged (expected keys and values)")
    return {str(key): value for key, value in content.items()}


def planned_jobs(sweep: Path) -> int:
    """How many jobs a sweep is to have; 0 where its `multirun.yaml` does not say."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        hydra = read_yaml(sweep / "multirun.yaml")["hydra"]
        sweeper, overrides = hydra["sweeper"], hydra["overrides"]["task"]
        if sweeper.get("n_trials"):
            return int(sweeper["n_trials"])
        params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
        parsed = OverridesParser.create().parse_overrides([*params, *overrides])
        choices = {
            each.get_key_element(): len(list(each.sweep_string_iterator()))
            for each in parsed
            if each.is_sweep_override()
        }
    except (HydraException, ValueError, KeyError, TypeError, AttributeError, OSError):
        return 0  # a glob or an interval has no number of choices of its own
    return math.prod(choices.values())
