"""What a checkpoint keeps of a task."""

from collections.abc import Mapping
from typing import Any


def part_of(state: Mapping[str, Any], kind: str, name: str) -> Any:
    """An entry of the state of a task of this kind.

    Raises:
        ValueError: where the state is that of another kind, or has no such entry.

    Example:
        >>> part_of({"kind": "regression", "columns": ["age"]}, "regression", "columns")
        ['age']
    """
    if state.get("kind") != kind:
        raise ValueError(
            f"expected the checkpoint of a {kind} task, got one of kind {state.get('kind')!r}: "
            "leave task= to the checkpoint"
        )
    if name not in state:
        raise ValueError(
            f"expected {name!r} in the task of the checkpoint, got {', '.join(state)}: it was "
            "written by another version"
        )
    return state[name]
