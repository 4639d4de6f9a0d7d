"""JSON schemas of config groups, by which an editor completes and explains the keys of a file."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from milforge.config.keys.key_help import Key

DRAFT = "http://json-schema.org/draft-07/schema#"
TYPES = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "Path": "string",
    "None": "null",
}
# Hydra's own words in a config file.
HYDRA = {
    "defaults": {"type": "array", "description": "options that this file is composed of"},
    "_target_": {"type": "string", "description": "the class or function that takes the keys"},
    "_partial_": {"type": "boolean", "description": "whether it is called with further arguments"},
}
INTERPOLATION = {"type": "string", "pattern": r"\$\{"}


def schema_of(keys: Iterable[Key], package: str = "", title: str = "") -> dict[str, Any]:
    """The schema of a YAML file that may hold these keys.

    Keys that are not among them are allowed: a class of a fork takes others, and the commands check
    them when they are composed.

    Args:
        keys: of a group's options; those of one name may be of several options.
        package: what their names begin with, such as `data`; empty for the whole config.
        title: of the schema.
    """
    prefix = f"{package}." if package else ""
    tree: dict[str, Any] = {}
    for key in keys:
        if not key.name.startswith(prefix):
            continue
        node = tree
        *above, last = key.name.removeprefix(prefix).split(".")
        for name in above:
            node = node.setdefault(name, {}).setdefault("below", {})
        node.setdefault(last, {}).setdefault("keys", []).append(key)
    return {"$schema": DRAFT, "title": title, **_object(tree)}


def _object(tree: Mapping[str, Any]) -> dict[str, Any]:
    properties = {name: _property(node) for name, node in tree.items()}
    return {"type": "object", "properties": {**HYDRA, **properties}}


def _property(node: Mapping[str, Any]) -> dict[str, Any]:
    """What all keys of one name allow together; the default where they have one in common."""
    keys: list[Key] = node.get("keys", [])
    texts = dict.fromkeys(key.description for key in keys if key.description)
    about: dict[str, Any] = {"description": "\n\n".join(texts)} if texts else {}
    if "below" in node:
        return {"anyOf": [_object(node["below"]), {"type": ["null", "string"]}], **about}
    values = {key.value for key in keys}
    value = values.pop() if len(values) == 1 else "???"
    if value and not value.startswith("${") and value != "???":
        about["default"] = yaml.safe_load(value)
    allowed = [choices(key.comment) or json_type(key.type) for key in keys]
    if not allowed or not all(allowed):
        return about
    unique = [each for i, each in enumerate(allowed) if each not in allowed[:i]]
    return {"anyOf": [*unique, INTERPOLATION], **about}


def json_type(annotation: str) -> dict[str, Any]:
    """What an annotation allows; empty where it is not one of plain values.

    Example:
        >>> json_type("float | None")
        {'type': ['number', 'null']}
        >>> json_type("Callable[..., nn.Module]")
        {}
    """
    if found := re.fullmatch(r"Literal\[(.*)\]", annotation):
        return {"enum": yaml.safe_load(f"[{found[1]}]")}
    parts = [part.strip() for part in annotation.split("|")]
    if not annotation or not all(part in TYPES for part in parts):
        return {}
    return {"type": [TYPES[part] for part in parts]}


def choices(comment: str) -> dict[str, Any]:
    """The values that a comment such as `slide | patient: what it is` lists; empty without any.

    Example:
        >>> choices("min | max; null: as the metric says")
        {'enum': ['min', 'max', None]}
        >>> choices("a folder, or null")
        {}
    """
    listed = re.match(r"((?:[\w.]+ \| )+[\w.]+)(?=[;:,. ]|$)", comment)
    if listed is None:
        return {}
    values = [yaml.safe_load(each) for each in listed[1].split(" | ")]
    further = [None] if re.search(r"\bnull\b", comment) and None not in values else []
    return {"enum": values + further}
