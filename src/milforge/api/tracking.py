"""What trackers such as W&B learn of a run, so that runs can be compared: name and config."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from milforge.api.build import resolved

# Groups by which people tell runs apart, in the order of their name.
NAMED = ("experiment", "data", "model", "loss")


def run_name(config: DictConfig, choices: Mapping[str, str]) -> str | None:
    """The name of a run in a tracker: what was chosen, the fold and the seed.

    Args:
        config: the composed config.
        choices: the chosen option of each group; empty where nothing was composed by Hydra.

    Returns:
        Such as `feature_bags sm_abmil fold 2 seed 0`; None where there are no choices.
    """
    chosen = [choices[group] for group in NAMED if choices.get(group) not in (None, "null", "task")]
    if not chosen:
        return None
    split = config.get("split") or {}
    fold = split.get("fold")
    return " ".join([*chosen, *([] if fold is None else [f"fold {fold}"]), f"seed {config.seed}"])


def tracked_config(
    config: DictConfig,
    choices: Mapping[str, str],
    overrides: Sequence[str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """What a tracker gets as the config of a run: all that may differ between runs, and no folder.

    Args:
        config: the composed config, with its interpolations.
        choices: the chosen option of each group, which become `choice/<group>`.
        overrides: those of the command line.
        facts: what is known of the run beside its config, such as its number of parameters.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    kept = _without_folders(raw, resolved(config))
    chosen = {f"choice/{group}": option for group, option in sorted(choices.items())}
    return {**kept, **chosen, "overrides": list(overrides), **facts}


def _without_folders(raw: Any, value: Any) -> Any:
    """The resolved value without `paths` and all that lies below one of them."""
    if not isinstance(raw, dict) or not isinstance(value, dict):
        return value
    return {
        key: _without_folders(raw[key], inner)
        for key, inner in value.items()
        if key != "paths" and not (isinstance(raw[key], str) and "${paths." in raw[key])
    }
