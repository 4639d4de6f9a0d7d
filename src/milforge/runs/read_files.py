"""What a run wrote, which a run that was killed, or somebody else, may have left in any state."""

import re
from pathlib import Path
from typing import Any

import yaml

from milforge.processes.files import read_json

_LARGEST_CONFIG = 2**20  # bytes; it has some thousand
_LARGEST_SUMMARY = 2**24
_MOST = 10**300  # a metric is a float
_DEEPEST = 60
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML was built with it


class _Loader(_PARSER):  # type: ignore[misc, valid-type]
    """Values as OmegaConf reads them, ten times faster: `1e-3` is a number, a date is text."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Keys and values; a key that stands twice is an error."""
        keys = [key.value for key, _ in node.value]
        if len(set(map(str, keys))) < len(keys):
            raise ValueError(f"a key of {', '.join(map(str, keys))[:80]} stands twice")
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, like) for tag, like in each if tag != "tag:yaml.org,2002:timestamp"]
    for first, each in _PARSER.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(_[0-9]+)*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads keys and values; a `ValueError` says that the file is damaged.

    A config has no aliases: a few lines with them stand for more values than any memory holds.
    """
    if path.stat().st_size > _LARGEST_CONFIG:
        raise ValueError(f"{path.name} is damaged (it is larger than {_LARGEST_CONFIG} bytes)")
    try:
        text = path.read_text("utf-8")
        _check(text)
        content = yaml.load(text, Loader=_Loader)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the parser has many
        cause, *_ = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"{path.name} is damaged ({cause})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is damaged (expected keys and values)")
    return {str(key): value for key, value in content.items()}


def _check(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_PARSER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("expected no aliases, got one")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"expected at most {_DEEPEST} levels, got more")


def read_summary(path: Path) -> dict[str, Any]:
    """Reads `summary.json`; metrics, data and monitor are there, or empty.

    Raises:
        ValueError: where it is damaged; says in what.
    """
    if path.stat().st_size > _LARGEST_SUMMARY:
        raise ValueError(f"{path.name} is damaged (it is larger than {_LARGEST_SUMMARY} bytes)")
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is damaged (expected names and values)")
    content = {"metrics": {}, "data": None, "monitor": None, **content}
    for name, kind in (("metrics", dict), ("data", dict | None), ("monitor", str | None)):
        if not isinstance(content[name], kind):
            raise ValueError(f"{path.name} is damaged ({name} is {content[name]!r:.100})")
    fingerprint = (content["data"] or {}).get("fingerprint")
    if not isinstance(fingerprint, str | None):
        raise ValueError(f"{path.name} is damaged (fingerprint is {fingerprint!r:.100})")
    hashes = (content["data"] or {}).get("hashes", {})
    if not (isinstance(hashes, dict) and all(isinstance(each, dict) for each in hashes.values())):
        raise ValueError(f"{path.name} is damaged (hashes is {hashes!r:.100})")
    for value in content["metrics"].values():
        # A float may be NaN, which tells nothing; a number of 400 digits is no float.
        number = value is None or isinstance(value, float)
        if not number and not (isinstance(value, int) and abs(value) < _MOST):
            raise ValueError(f"{path.name} is damaged (expected metrics with numbers)")
    return content
