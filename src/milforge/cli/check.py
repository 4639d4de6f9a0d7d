"""Whether the keys of a config are those that the named classes take."""

import dataclasses
import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from milforge.cli.source import parameters_in_source

HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
# Whom a class hands the keys on that it does not name itself.
HANDS_ON = {
    "lightning.pytorch.loggers.WandbLogger": "wandb.init",
    "lightning.pytorch.loggers.TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
}


class RefusedFolder(ValueError):
    """A folder that holds another run, or that another process writes to: nothing is done there."""


def check_targets(config: DictConfig) -> None:
    """Binds the keys of every `_target_` in the config to the signature of what it names.

    Raises:
        ValueError: for a key that the schema has not, a target that there is not, a key that it
            does not take, a value that it needs and does not get, or a callback or logger without
            a target; the message names the key and the nearest right one.
    """
    for path, part in (("", config), ("paths.", config.get("paths"))):
        _check_fields(path, part)
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    for group in ("callbacks", "logger"):
        _check_members(group, plain.get(group) or {})
    targets = list(_targets(plain, ""))
    # What the source tells is told first: to import Lightning takes longer than a user waits.
    for path, node in targets:
        names = parameters_in_source(str(node["_target_"]))
        if names is not None:
            _check_names(path, node, names)
    for path, node in targets:
        _check(path, node)


def did_you_mean(name: str, candidates: list[str]) -> str:
    """`; did you mean 'x'?` for the candidate nearest to the name, or nothing.

    Example:
        >>> did_you_mean("att_dmi", ["att_dim", "act"])
        "; did you mean 'att_dim'?"
    """
    near = get_close_matches(name, candidates, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_`, and the path to it."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{path}[{i}]")


def _check_fields(path: str, node: DictConfig | None) -> None:
    """`+key=value` makes a key even where the schema has none."""
    schema = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    if node is None or not dataclasses.is_dataclass(schema):
        return
    names = [f"{path}{field.name}" for field in dataclasses.fields(schema)]
    for key in map(str, node):
        if path + key not in names:
            raise ValueError(f"there is no key '{path}{key}'{did_you_mean(path + key, names)}")


def _check_members(group: str, members: dict[str, Any]) -> None:
    """A misspelt name would make a new member, which is nothing."""
    known = [
        name for name, node in members.items() if isinstance(node, dict) and "_target_" in node
    ]
    for name, node in members.items():
        if node is not None and name not in known:
            raise ValueError(
                f"{group}.{name}: there is no such member of {group}{did_you_mean(name, known)} "
                "(a new one needs a _target_)"
            )


def _check_names(path: str, node: dict[str, Any], names: list[str]) -> None:
    for key in node:
        if key not in HYDRA_KEYS and key not in names:
            raise ValueError(
                f"{path}.{key}: {node['_target_']} takes no {key!r}{did_you_mean(key, names)} "
                f"(it takes {', '.join(names)})"
            )


def _check(path: str, node: dict[str, Any]) -> None:
    target = str(node["_target_"])
    try:
        signature = inspect.signature(get_object(target))
    except Exception as error:
        # Whatever importing it raises, the config names something that cannot be had.
        cause = str(error).splitlines()[0]
        raise ValueError(f"{path}._target_: {target!r} cannot be imported: {cause}") from error
    parameters = dict(signature.parameters)
    if target in HANDS_ON:
        further = inspect.signature(get_object(HANDS_ON[target])).parameters
        parameters = {k: p for k, p in parameters.items() if p.kind != p.VAR_KEYWORD} | further
    kinds = [parameter.kind for parameter in parameters.values()]
    names = [name for name in parameters if name != "self"]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        _check_names(path, node, names)
    if not node.get("_partial_") and not node.get("_args_"):
        for name, parameter in signature.parameters.items():
            variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if not variadic and parameter.default is parameter.empty and name not in node:
                raise ValueError(f"{path}: {target} needs {name!r}; give {path}.{name}=...")
