"""The names that the package had before, under which older runs and checkpoints were written.

`scripts/rename_project.py` keeps them in `former_names.txt` beside this file. A project that was
never renamed has no such file, and nothing is translated in it.
"""

from importlib.resources import files
from typing import Any

PRESENT = "milforge"


def former_names() -> list[str]:
    """The former names of the package, the oldest first."""
    record = files(PRESENT) / "former_names.txt"
    lines = record.read_text("utf-8").splitlines() if record.is_file() else []
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def with_present_targets(config: Any) -> Any:
    """A config, or any part of one, with every `_target_` under the present name of the package.

    Args:
        config: plain data; it stays as it is.
    """
    former = former_names()
    return _translated(config, former) if former else config


def with_present_key(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with what we keep in it under the present name, the targets in it as well.

    Args:
        checkpoint: as it was loaded; it stays as it is.
    """
    former = former_names()
    names = [name for name in (PRESENT, *reversed(former)) if name in checkpoint]
    stored = checkpoint[names[0]] if names else None
    if not former or not isinstance(stored, dict):
        return checkpoint
    if "config" in stored:
        stored = {**stored, "config": _translated(stored["config"], former)}
    others = {key: value for key, value in checkpoint.items() if key != names[0]}
    return {**others, PRESENT: stored}


def _translated(node: Any, former: list[str]) -> Any:
    if isinstance(node, dict):
        return {
            key: _target(value, former) if key == "_target_" else _translated(value, former)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_translated(each, former) for each in node]
    return node


def _target(target: Any, former: list[str]) -> Any:
    package, dot, rest = str(target).partition(".")
    return f"{PRESENT}.{rest}" if dot and package in former else target
