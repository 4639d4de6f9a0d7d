"""Whether the keys of a config are those that the named classes take."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from milforge.config.keys.signatures import parameters_in_source
from milforge.config.keys.value_check import check_values

HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
# Whom a class hands the keys on that it does not name itself.
HANDS_ON = {
    "lightning.pytorch.loggers.WandbLogger": "wandb.init",
    "lightning.pytorch.loggers.TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
}


# Groups whose target is called by the run itself, with what the config cannot know.
CALLED_LATER = {
    "loss": "it is called with the logits and labels of a batch, so leave it partial",
    "model": "it is called with the shape of an instance, so leave it partial",
    "module": "it is called with the network and the task, so leave it partial",
    "optimizer": "it is called with the parameters of the network, so leave it partial",
    "scheduler": "it is called with the optimiser, so leave it partial",
}
# Groups that are one target, where they are anything.
ONE_TARGET = (*CALLED_LATER, "data", "split", "graph", "loader", "task", "trainer")
Parameters = Mapping[str, inspect.Parameter]
# What to do where the target of a group is gone, such as one that a checkpoint was trained with.
INSTEAD = {
    "loss": "loss=task is the loss of the task itself",
    "metrics": "metrics=task are those of the task alone",
    "task": "choose the task that takes its place, task=...",
    "module": "module=default is that of MilForge",
}


def check_targets(config: DictConfig) -> None:
    """Binds the keys of every `_target_` in the config to the signature of what it names.

    Raises:
        ValueError: for a key that the schema does not have, a target that does not exist, a key
            that it does not take, a value of another type, a value that it needs and does not get,
            or a group, callback, logger or metric without a target; the message names the key and
            the nearest right one. What a metric needs may come from the task: `check_complete`
            looks at that later.
    """
    for path, part in (("", config), ("paths.", config.get("paths"))):
        _check_fields(path, part)
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    if isinstance(plain.get("loss"), dict):
        plain["loss"].pop("instances", None)  # a weight beside the keys of the loss
    for group in ONE_TARGET:
        _check_group(group, plain.get(group))
    for group in ("callbacks", "logger", "metrics"):
        _check_members(group, plain.get(group))
    targets = list(targets_of(plain))
    # What the source says is checked first, because importing Lightning takes seconds.
    for path, node in targets:
        names = parameters_in_source(str(node["_target_"]))
        if names is not None:
            _check_names(path, node, names)
    for path, node in targets:
        parameters = _check(path, node)
        if not path.startswith("metrics."):
            _check_complete(path, node, parameters)


def check_complete(path: str, node: dict[Any, Any]) -> None:
    """Checks that a target gets every value that it needs.

    Args:
        path: where the target stands in the config, for the message.
        node: its keys and their values.

    Raises:
        ValueError: names the first value that it does not get.
    """
    _check_complete(path, node, _check(path, node))


def did_you_mean(name: object, candidates: list[str]) -> str:
    """`; did you mean 'x'?` for the candidate nearest to the name, or nothing.

    The name is that of a key, which may be a number.

    Example:
        >>> did_you_mean("att_dmi", ["att_dim", "act"])
        "; did you mean 'att_dim'?"
    """
    near = get_close_matches(str(name), candidates, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def targets_of(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_` in a config as plain data, and the path to it.

    Example:
        >>> list(targets_of({"model": [{"_target_": "a.B"}]}))
        [('model[0]', {'_target_': 'a.B'})]
    """
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from targets_of(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from targets_of(value, f"{path}[{i}]")


def _check_fields(path: str, node: DictConfig | None) -> None:
    """`+key=value` makes a key even where the schema has none."""
    schema = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    if node is None or not dataclasses.is_dataclass(schema):
        return
    names = [f"{path}{field.name}" for field in dataclasses.fields(schema)]
    for key in map(str, node):
        if path + key not in names:
            raise ValueError(f"there is no key '{path}{key}'{did_you_mean(path + key, names)}")


def _check_group(group: str, node: Any) -> None:
    # What evaluation says of the trainer stands above the one that a checkpoint has.
    if node and not (isinstance(node, dict) and ("_target_" in node or group == "trainer")):
        raise ValueError(f"{group}: expected a _target_ and its options, got {node!r:.100}")


def _check_members(group: str, members: Any) -> None:
    """A misspelt name would make a new member, which is nothing."""
    if not isinstance(members, dict | None):
        raise ValueError(f"{group}: expected names, each with a _target_, got {members!r:.100}")
    members = {str(name): node for name, node in (members or {}).items()}
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


def _check(path: str, node: dict[str, Any]) -> Parameters:
    """Checks the target and the names of its keys; returns what the target takes."""
    target = str(node["_target_"])
    try:
        named = get_object(target)
    except Exception as error:
        # Any error of the import means that the config names something that cannot be had.
        cause, *_ = str(error).splitlines() or [type(error).__name__]
        group = re.split(r"[.\[]", path)[0]
        instead = f"; {INSTEAD[group]}" if group in INSTEAD else ""
        message = f"{path}._target_: {target!r} cannot be imported: {cause}{instead}"
        raise ValueError(message) from error
    try:
        signature = inspect.signature(named)
    except (ValueError, TypeError):  # some builtins have no signature
        return {}
    parameters = dict(signature.parameters)
    if target in HANDS_ON:
        further = inspect.signature(get_object(HANDS_ON[target])).parameters
        parameters = {k: p for k, p in parameters.items() if p.kind != p.VAR_KEYWORD} | further
    kinds = [parameter.kind for parameter in parameters.values()]
    names = [name for name in parameters if name != "self"]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        _check_names(path, node, names)
    check_values(path, node, named)
    return signature.parameters


def _check_complete(path: str, node: dict[str, Any], parameters: Parameters) -> None:
    if node.get("_partial_") or node.get("_args_"):
        return
    for name, parameter in parameters.items():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if variadic or parameter.default is not parameter.empty or name in node:
            continue
        remedy = f"give {path}.{name}=..."
        if path in CALLED_LATER:
            remedy = f"{CALLED_LATER[path]}: +{path}._partial_=true"
        raise ValueError(f"{path}: {node['_target_']} needs {name!r}; {remedy}")
