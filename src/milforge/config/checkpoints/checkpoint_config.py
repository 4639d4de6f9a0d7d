"""The config that a checkpoint carries, brought under the command line of another command."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milforge.config.checkpoints.checkpoint_content import check_content
from milforge.config.checkpoints.checkpoint_paths import named_checkpoints, override
from milforge.config.checkpoints.trust import (
    check_names,
    check_objects,
    plain_config,
    within_the_run,
)
from milforge.config.checkpoints.trusted_packages import trusted_packages
from milforge.config.hydra_versions import store_config
from milforge.config.schema import NETWORK_AND_DATA
from milforge.processes.system_errors import shortage
from milforge.runs.checksums import check_sums
from milforge.runs.former_names import with_present_key

if TYPE_CHECKING:
    from torch import nn

    from milforge.training.data.standardising import InstanceShape

# Groups and keys that a checkpoint gives to other commands; the rest belongs to each command.
KEPT = ("seed", "tags", "bags_alone", *NETWORK_AND_DATA, "trainer")
HELP_FLAGS = {"-h", "--help", "--hydra-help", "--version", "-sc", "--shell-completion"}


def load_checkpoint(path: str, key: str = "ckpt_path") -> dict[str, Any]:
    """Reads a checkpoint that `milforge-train` wrote, its tensors and plain data only.

    One that was written before the package was renamed comes under the present name.

    Args:
        path: the file.
        key: the key of the config that names it, for messages.

    Raises:
        ValueError: where the file is not there, cannot be read, or is not such a checkpoint.
    """
    import torch

    if not Path(path).is_file():
        raise ValueError(f"{key}: there is no file {path}")
    try:
        check_sums(Path(path))
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        lacking = shortage(error)
        if lacking is not None:
            raise ValueError(
                f"{key}: {path} cannot be read for {lacking[0]}: {lacking[1]}"
            ) from error
        raise ValueError(
            f"{key}: {path} cannot be read as a checkpoint: it is truncated or damaged, of another "
            "format, or holds more than tensors and plain data; give a file from a run's "
            "checkpoints/ folder"
        ) from error
    checkpoint = with_present_key(checkpoint) if isinstance(checkpoint, dict) else {}
    stored = checkpoint.get("milforge")
    if not isinstance(stored, dict) or "state_dict" not in checkpoint:
        raise ValueError(
            f"{key}: {path} was not written by milforge-train (it lacks the key 'milforge'); "
            "give a file from a run's checkpoints/ folder"
        )
    origin = f"{key}: {path}"
    check_content(checkpoint, origin)
    plain_config(stored["config"], origin)
    return checkpoint


def store_run(path: str, arguments: list[str]) -> None:
    """Makes the config stored in a checkpoint known to Hydra as `stored_run`.

    Raises:
        ValueError: where it cannot be read, or names what a checkpoint may not call.
    """
    part = stored_part(load_checkpoint(path)["milforge"]["config"], arguments)
    origin = f"ckpt_path: {path}"
    for group in ("data", "model", "trainer"):
        if not _chosen(arguments, group):
            check_group(part, group, origin)
    for group, node in part.items():
        if group not in ("seed", "tags", "bags_alone") and not isinstance(node, dict | None):
            raise ValueError(
                f"{origin} holds a config with {node!r:.100} as {group!r}: it is damaged"
            )
    check_names(part, origin, trusted_packages(arguments))
    store_config("stored_run", part)


def check_stored(path: str, stored: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Checks that what a stored config would call is what its names say.

    Apart from `store_run`, because importing it takes longer than to find a misspelt key.

    Raises:
        ValueError: names the first that is not.
    """
    part = stored_part(stored["config"], overrides)
    check_objects(part, f"ckpt_path: {path}", trusted_packages(overrides))


def stored_part(config: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """What of a stored config stands below a command line.

    A group chosen there, such as `data=mnist_bags`, replaces the stored one whole; where other data
    are chosen, the stored split is left out too.

    Example:
        >>> stored_part({"data": {}, "split": {}, "seed": 3, "run": "a"}, ["data=mnist_bags"])
        {'seed': 3}
    """
    chosen = {key for key in KEPT if _chosen(arguments, key)}
    chosen |= {"split"} if "data" in chosen else set()
    return within_the_run({key: config[key] for key in KEPT if key in config and key not in chosen})


def _chosen(arguments: Sequence[str], group: str) -> bool:
    """Whether a command line replaces a stored group."""
    return any(each.startswith(f"{group}=") for each in arguments)


def check_group(part: Mapping[str, Any], group: str, origin: str) -> None:
    """Checks that a stored config has a group without which nothing can be built.

    Raises:
        ValueError: where it has not.
    """
    node = part.get(group)
    if not isinstance(node, dict) or "_target_" not in node:
        raise ValueError(
            f"{origin} holds a config without {group!r}, or one that names nothing to build: it is "
            f"damaged; choose {group}=... on the command line"
        )


def ckpt_path(arguments: list[str]) -> str | None:
    """What the command line gives as checkpoint, unquoted.

    Example:
        >>> ckpt_path(["data.root=x", "ckpt_path='logs/a b.ckpt'"])
        'logs/a b.ckpt'
    """
    for argument in reversed(arguments):
        key, _, value = argument.partition("=")
        if key == "ckpt_path":
            return value.strip("'\"")
    return None


def prepare(command: str) -> None:
    """Reads the (first) checkpoint named on this process's command line before Hydra composes.

    The command line is left with the files that `ckpt_path` stands for; see `named_checkpoints`.

    Raises:
        ValueError: where there is none, or it cannot be read.
    """
    arguments = sys.argv[1:]
    if HELP_FLAGS & set(arguments):
        return
    text = ckpt_path(arguments)
    if text is None:
        raise ValueError(f"{command} needs a checkpoint: ckpt_path=FILE")
    paths = named_checkpoints(text)
    store_run(paths[0], arguments)
    named = override(paths)
    sys.argv[1:] = [
        named if each.startswith("ckpt_path=") else each for each in over_stored(arguments)
    ]


def over_stored(arguments: list[str]) -> list[str]:
    """The arguments, with groups inside a stored group as Hydra wants them.

    The stored config is plain values: to Hydra a group inside it, such as `model/encoder`, is
    new, and new ones need a plus sign.

    Example:
        >>> over_stored(["model/encoder=lenet", "data.train=3"])
        ['+model/encoder=lenet', 'data.train=3']
        >>> over_stored(["model=abmil", "model/encoder=lenet"])
        ['model=abmil', 'model/encoder=lenet']
    """
    chosen = {match[1] for match in (re.match(r"(\w+)=", each) for each in arguments) if match}
    inside = [re.match(r"(\w+)/\w+=", each) for each in arguments]
    return [
        f"+{each}" if match and match[1] in KEPT and match[1] not in chosen else each
        for each, match in zip(arguments, inside, strict=True)
    ]


def load_weights(
    module: "nn.Module",
    checkpoint: Mapping[str, Any],
    path: str,
    shape: "InstanceShape",
    classes: tuple[str, ...],
) -> None:
    """Loads the weights of a checkpoint into a module made for bags of that kind.

    Raises:
        ValueError: where the checkpoint fits neither the bags nor the module.
    """
    check_fit(checkpoint["milforge"], shape, classes)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise unfitting(path) from error


def unfitting(path: str) -> ValueError:
    """The error of weights that are of another model."""
    return ValueError(
        f"ckpt_path: {path} does not fit the model of this config; choose the model that it was "
        "trained with (evaluation and prediction do where no key of the model is given)"
    )


def empty_standardiser(shape: "InstanceShape") -> "nn.Module":
    """What the statistics of a checkpoint are loaded into."""
    import torch

    from milforge.nn import EachStream, Standardise

    if isinstance(shape, dict):
        return EachStream({n: empty_standardiser(each) for n, each in shape.items()})
    return Standardise(torch.zeros(shape), torch.ones(shape))


def as_plain(shape: "InstanceShape") -> Any:
    """The shape of an instance as a checkpoint holds it: lists, not tuples.

    Example:
        >>> as_plain({"rgb": (3,), "depth": (1, 8, 8)})
        {'rgb': [3], 'depth': [1, 8, 8]}
    """
    if isinstance(shape, dict):
        return {name: list(each) for name, each in shape.items()}
    return list(shape)


def check_fit(stored: Mapping[str, Any], shape: "InstanceShape", classes: tuple[str, ...]) -> None:
    """Checks that bags are of the kind a checkpoint was trained on.

    Raises:
        ValueError: for instances of another shape, or other classes.
    """
    expected = stored["instance_shape"]
    if as_plain(shape) != expected:
        raise ValueError(
            "the checkpoint was trained on instances of shape "
            f"{tuple(expected) if isinstance(expected, list) else expected}, the data have "
            f"{shape}; choose other data or another checkpoint"
        )
    names = tuple(stored["class_names"])
    if classes != names:
        raise ValueError(
            f"the checkpoint was trained on the classes {names}, the data have {classes}; "
            "choose other data or another checkpoint"
        )
