"""What the config of a checkpoint may name: a checkpoint is data, and nothing in it is run."""

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from milforge.config.keys.key_check import targets_of
from milforge.runs.former_names import PRESENT

# Below these a stored config may name classes; of this package functions as well.
PACKAGES = (
    PRESENT,
    "torch.nn",
    "torch.optim",
    "torchmetrics",
    "lightning.Trainer",
    "lightning.pytorch.Trainer",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.strategies",
    "lightning.pytorch.trainer",
    "wandb.Settings",
)
# What these define has a name above, and stands elsewhere.
HOMES = (*PACKAGES, "wandb.sdk.wandb_settings")
# What stands in the trainer alone: elsewhere it would make folders where a stored path says so.
OF_THE_TRAINER = ("lightning", "wandb")
# What writes, starts, imports or instantiates what its arguments name.
CLOSED = (
    *(
        f"{PRESENT}.{name}"
        for name in (
            "api",
            "callbacks",
            "cli",
            "compose",
            "config",
            "data.content_cache",
            "data.features.cache",
            "data.features.known_bags",
            "data.features.readers",
            "data.files",
            "data.images.sources",
            "data.splits.files",
            "data.user_cache",
            "fit",
            "load",
            "maps",
            "plots",
            "processes",
            "report",
            "runs",
            "trackers",
        )
    ),
    # They fetch, or load from a path, networks of other people.
    *(f"torchmetrics.{name}" for name in ("audio", "image", "multimodal", "text", "video")),
)
# The plugin of every trainer, which writes what and where the trainer says.
OPEN = (f"{PRESENT}.runs.checkpoint_io.WholeCheckpointIO",)
# Where a stored config may say that something is written. A command writes to its own run's folder;
# another place is named by the person who types the command.
PLACES = (
    "adjacency_cache",
    "cache",
    "cache_dir",
    "default_root_dir",
    "dir",
    "dirpath",
    "log_dir",
    "output_dir",
    "save_dir",
)
# What a command gives its trainer itself, or what is of the training alone.
NOT_OF_THE_TRAINER = ("callbacks", "logger", "profiler")

_DEEPEST = 40  # levels of a config
_LARGEST = 20_000  # values in it
_LONGEST = 100_000  # characters in one of them

_PUBLIC = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)


def plain_config(config: Any, origin: str) -> None:
    """Checks that a stored config is plain data of a size that a config may have.

    It is resolved when it is stored, so it refers to nothing: not to other keys, the environment or
    the file system.

    Args:
        config: as a checkpoint holds it.
        origin: the key and the file, which begin an error.

    Raises:
        ValueError: for other values than mappings, lists, text and numbers, for an interpolation,
            and where it is too deep or too large; the message names the key.
    """
    values = 0
    waiting: list[tuple[str, Any, int]] = [("", config, 0)]
    while waiting:
        path, node, depth = waiting.pop()
        values += 1
        if depth > _DEEPEST or values > _LARGEST:
            raise ValueError(
                f"{origin} holds a config of more than {_DEEPEST} levels or {_LARGEST} values, "
                "which no run has: it is damaged, or made to do harm"
            )
        if isinstance(node, dict):
            for key, value in node.items():
                _check_text(path, key, origin)
                waiting.append((f"{path}.{key}" if path else str(key), value, depth + 1))
        elif isinstance(node, list):
            waiting += [(f"{path}[{i}]", value, depth + 1) for i, value in enumerate(node)]
        else:
            _check_text(path, node, origin)


def _check_text(path: str, value: Any, origin: str) -> None:
    where = path[:200]
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(
            f"{origin} holds a {type(value).__name__} at {where} of its config: expected mappings, "
            "lists, text and numbers"
        )
    if isinstance(value, str) and "${" in value:
        raise ValueError(
            f"{origin} holds the interpolation {value[:100]!r} at {where} of its config: a stored "
            "config refers to nothing, least of all to the environment; give the key on the "
            "command line"
        )
    absurd = isinstance(value, str) and len(value) > _LONGEST
    if absurd or (isinstance(value, int) and abs(value) >= 2**63):
        raise ValueError(f"{origin} holds a value of absurd size at {where} of its config")


def within_the_run(part: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of a stored config without the places that it would have written to.

    A cache that training used is not used again unless the command line names it.

    Example:
        >>> within_the_run({"graph": {"k": 8, "cache": "/home/me/graphs"}})
        {'graph': {'k': 8, 'cache': None}}
    """
    kept = {name: _without_places(group) for name, group in part.items()}
    if isinstance(kept.get("trainer"), dict):
        trainer = kept["trainer"].items()
        kept["trainer"] = {key: each for key, each in trainer if key not in NOT_OF_THE_TRAINER}
    return kept


def _without_places(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: None if key in PLACES else _without_places(value) for key, value in node.items()
        }
    return [_without_places(each) for each in node] if isinstance(node, list) else node


def check_names(part: Mapping[str, Any], origin: str, trusted: Sequence[str] = ()) -> None:
    """Checks the names of all that a stored config would call; nothing is imported.

    Args:
        part: groups of a stored config, by name.
        origin: the key and the file, which begin an error.
        trusted: packages that the person who types the command trusts.

    Raises:
        ValueError: names the first that is not allowed, its key and the remedy.
    """
    for path, node in targets_of(part):
        target = node["_target_"]
        if not isinstance(target, str):
            raise ValueError(f"{origin} holds a name that is no text at {path}._target_")
        if _below(target, trusted):
            continue
        public = _PUBLIC.fullmatch(target) is not None
        if not (public and _below(target, PACKAGES)) or _below(target, CLOSED):
            raise _refused(path, target, origin)
        if target.split(".")[0] in OF_THE_TRAINER and path.split(".")[0] != "trainer":
            raise _refused(path, target, origin)
        if node.get("_args_") and not _below(target, ("torch.nn",)):
            raise ValueError(
                f"{origin} gives {target} values without a name at {path}._args_: a stored config "
                "names them"
            )


def check_objects(part: Mapping[str, Any], origin: str, trusted: Sequence[str] = ()) -> None:
    """Imports what the names stand for, and checks that it is what it seems to be.

    `lightning.pytorch.loggers.csv_logs.os.system` has an allowed name, and is a shell.

    Args:
        part: groups of a stored config, by name.
        origin: the key and the file, which begin an error.
        trusted: packages that the person who types the command trusts.

    Raises:
        ValueError: as `check_names`; and for what comes from elsewhere, or is neither class nor
            function; names it.
    """
    check_names(part, origin, trusted)
    for path, node in targets_of(part):
        target = node["_target_"]
        owned = _below(target, trusted)
        found = _find(target, in_classes=owned)
        if found is None:
            raise ValueError(
                f"{origin} names {target[:200]!r} at {path}._target_, which cannot be imported: "
                "choose that group on the command line"
            )
        home = str(getattr(found, "__module__", ""))
        name = f"{home}.{getattr(found, '__qualname__', '')}"
        functions = owned or _below(target, (PRESENT,))
        kind = inspect.isclass(found) or (functions and inspect.isroutine(found))
        if owned:
            allowed = _below(name, (*trusted, *HOMES))
        else:
            allowed = _below(name, HOMES) and (name in OPEN or not _below(name, CLOSED))
        if not (kind and allowed):
            raise _refused(path, target, origin)


def _find(target: str, *, in_classes: bool) -> Any:
    """What a dotted name stands for, None where there is nothing.

    Only modules of that very name lie on the way to it, and, where that is asked for, classes.
    """
    parts = target.split(".")
    found: Any = None
    for i, part in enumerate(parts):
        prefix = ".".join(parts[: i + 1])
        inside = found
        try:
            if inside is None or (isinstance(inside, ModuleType) and not hasattr(inside, part)):
                found = import_module(prefix)
            else:
                found = getattr(inside, part)
        except Exception:  # whatever importing it raises
            return None
        last = i == len(parts) - 1
        of_this_name = isinstance(found, ModuleType) and found.__name__ == prefix
        if not last and not of_this_name and not (in_classes and inspect.isclass(found)):
            return _NOTHING if found is not None else None
    return found


_NOTHING = object()  # neither class nor function


def _refused(path: str, target: str, origin: str) -> ValueError:
    package = target.split(".")[0][:100]
    return ValueError(
        f"{origin} names {target[:200]!r} at {path}._target_, which a checkpoint may not call: it "
        f"is data, and could name anything; if you know where it comes from, add trust={package}, "
        "or choose that group on the command line"
    )


def _below(name: str, packages: Sequence[str]) -> bool:
    """Whether a dotted name is one of these, or lies below it."""
    return any(name == each or name.startswith(f"{each}.") for each in packages)
