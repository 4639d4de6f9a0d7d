"""The checkpoints that `ckpt_path` names: one, or the members of an ensemble."""

from collections import Counter
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

# What members of an ensemble must have in common, in words.
KIND = {
    "instance_shape": "instances of shape",
    "feature_names": "the features",
    "kind": "the task",
    "class_names": "the classes",
    "columns": "the label columns",
}


def named_checkpoints(text: str) -> list[str]:
    """The files that a value of `ckpt_path` on the command line stands for.

    A file stands for itself; a folder for every `best.ckpt` below it or, where there is none, for
    every `.ckpt` file in it; a pattern such as `logs/train/multiruns/demo/*/checkpoints/best.ckpt`
    for what it matches, in alphabetical order; and a list `[a,b]` for all that its items stand for.

    Raises:
        ValueError: where there is no such file, a file is named twice, or the value is a sweep.
    """
    paths = [path for item in _items(text) for path in _files(item)]
    if not paths:
        raise ValueError(f"ckpt_path: expected at least one checkpoint, got {text}")
    path, count = Counter(str(Path(path).resolve()) for path in paths).most_common(1)[0]
    if count > 1:
        raise ValueError(f"ckpt_path: {path} is named {count} times; name each checkpoint once")
    return paths


def override(paths: list[str]) -> str:
    """What Hydra takes for these files: a string for one, else a list.

    Example:
        >>> override(["a b.ckpt"]), override(["a.ckpt", "epoch=3.ckpt"])
        ("ckpt_path='a b.ckpt'", "ckpt_path=['a.ckpt','epoch=3.ckpt']")
    """
    quoted = [QuotedString(path, Quote.single).with_quotes() for path in paths]
    return f"ckpt_path={quoted[0] if len(quoted) == 1 else '[' + ','.join(quoted) + ']'}"


def _items(text: str) -> list[str]:
    """The items of a list; of any other value, the value."""
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    try:
        items = OverridesParser.create().parse_override(f"ckpt_path={text}").value()
    except HydraException as error:
        raise ValueError(
            f"ckpt_path: {text} cannot be read as a list; put quotes round each of its paths, "
            """as in "ckpt_path=['a.ckpt','b.ckpt']\""""
        ) from error
    return [str(item) for item in items] if isinstance(items, list) else [text]


def _files(item: str) -> list[str]:
    path = Path(item)
    if path.is_dir():
        found = sorted(path.rglob("best.ckpt")) or sorted(path.glob("*.ckpt"))
        if not found:
            raise ValueError(
                f"ckpt_path: the folder {item} has no best.ckpt below it, nor any .ckpt file in it"
            )
        return [str(each) for each in found]
    if path.exists():
        return [item]
    if any(sign in item for sign in "*?["):
        matches = sorted(glob(item, recursive=True))
        if not matches:
            raise ValueError(f"ckpt_path: no file matches {item}")
        return [each for match in matches for each in _files(match)]
    if "," in item:
        raise ValueError(
            f"ckpt_path: expected one checkpoint or a list in brackets, which is averaged, got "
            f"{item}; to evaluate each checkpoint by itself, run the command once for each"
        )
    raise ValueError(f"ckpt_path: there is no file {item}")


def check_alike(stored: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that checkpoints can be averaged: one kind of instance, one task, the same classes.

    Args:
        stored: path to what its checkpoint holds under `milforge`.

    Raises:
        ValueError: where one differs from the first; the message names it, and in what.
    """
    (path, first), *others = stored.items()
    for other, content in others:
        for key, name in KIND.items():
            mine, its = _part(first, key), _part(content, key)
            if mine != its:
                raise ValueError(
                    f"ckpt_path: {other} was trained on {name} {_in_words(its)}, {path} on "
                    f"{_in_words(mine)}; only checkpoints that agree in it can be averaged"
                )


def _part(stored: Mapping[str, Any], key: str) -> Any:
    """What a checkpoint says of the bags, or else of its task."""
    return stored[key] if key in stored else stored["task"].get(key)


def different_parts(configs: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> list[str]:
    """Keys in which members of an ensemble differ, so that their test parts may, too.

    None where the data are not those that the first was trained on: they are new to all.

    Args:
        configs: each member's, as it was trained.
        config: the config of this run.
    """
    parts = [_parts(each) for each in configs]
    first, now = parts[0], _parts(config)
    if now != first:
        return []
    keys = sorted({key for each in parts for key in each})
    return [key for key in keys if any(each.get(key) != first.get(key) for each in parts)]


def _parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides which bags stand in the test part: where they come from and how they are split.

    Generated data, which are not split, have test bags that no training bag resembles.
    """
    split, data = config.get("split") or {}, config["data"]
    chosen = {f"split.{key}": value for key, value in split.items()}
    names = ("root", "labels") if split else ()
    return chosen | {f"data.{name}": data.get(name) for name in names}


def _in_words(value: Any) -> str:
    return str(tuple(value) if isinstance(value, list) else value)
