"""What of a config decides which weights come out of a run: two runs that agree in it are one."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object

from milforge.config.schema import NETWORK_AND_DATA

# What decides which weights come out. Where, with how many processes, and for how long a run is
# trained may change when it goes on; so may what a target declares to change nothing.
DECISIVE = (
    *NETWORK_AND_DATA,
    "bags_alone",
    "standardise",
    "standardise_clip",
    "init_from",
    "freeze",
    "optimizer",
    "scheduler",
    "seed",
    "monitor",
    "monitor_mode",
)
# Keys of the trainer that decide it, too.
DECISIVE_TRAINER = (
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "limit_val_batches",
    "overfit_batches",
    "check_val_every_n_epoch",
    "val_check_interval",
)


def identity(config: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """What decides which weights come out, as a flat mapping from key to value.

    Args:
        config: the config as plain data; it may come from a file, so nothing it names is imported.
        typed: the config of the person who begins the run, whose names are.
    """
    chosen = {key: _without_harmless(config.get(key), typed.get(key)) for key in DECISIVE}
    trainer = config.get("trainer")
    trainer = trainer if isinstance(trainer, Mapping) else {}
    return _flat(chosen | {"trainer": {key: trainer.get(key) for key in DECISIVE_TRAINER}})


def _without_harmless(node: Any, typed: Any) -> Any:
    """A group without the options that its target declares to change nothing."""
    if not (isinstance(node, Mapping) and isinstance(typed, Mapping)) or "_target_" not in node:
        return node
    if node["_target_"] != typed.get("_target_"):
        return node  # another one already, whatever it is
    try:
        target = get_object(str(node["_target_"]))
    except Exception:  # gone from the fork, say: then all keys count
        return node
    harmless = getattr(target, "changes_nothing", ())
    return {key: value for key, value in node.items() if key not in harmless}


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping):
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
