"""The states of callbacks in a checkpoint, as a run may take them up."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor


def is_own(path: str | Path | None, callbacks: Sequence[L.Callback]) -> bool:
    """Whether a checkpoint lies where this run writes its own; it does where nothing is written."""
    kept = [each for each in callbacks if isinstance(each, ModelCheckpoint) and each.dirpath]
    if path is None or not kept:
        return True
    return Path(path).resolve().parent in [Path(str(each.dirpath)).resolve() for each in kept]


def adapt_states(states: dict[str, Any], callbacks: Sequence[L.Callback]) -> None:
    """Makes the states of callbacks, in a checkpoint of this run, fit its callbacks of now.

    `ModelCheckpoint` gives up its best score where the folder has another path than before: it was
    moved, or is seen from another machine. `EarlyStopping` takes the patience of before for that
    of now, which may have been raised to go on.

    No path in a checkpoint decides what is removed or written: of each the name alone is taken, in
    the folder of now, and only where the callback itself could have given it.

    Args:
        states: by the `state_key` of the callback; changed in place.
        callbacks: of the trainer.

    Raises:
        ValueError: for a state that no such callback has.
    """
    for callback in callbacks:
        state = states.get(callback.state_key)
        if state is None:
            continue
        if isinstance(callback, EarlyStopping):
            _check(callback, state, wait_count=int, stopped_epoch=int, best_score=Tensor)
            state["patience"] = callback.patience
        elif isinstance(callback, ModelCheckpoint):
            paths = ("best_model_path", "kth_best_model_path", "last_model_path")
            _check(callback, state, **dict.fromkeys(paths, str), best_k_models=dict)
            for key in paths:
                state[key] = _own(callback, state[key])
            kept = [(_own(callback, path), score) for path, score in state["best_k_models"].items()]
            state["best_k_models"] = {path: score for path, score in kept if path}
            state["dirpath"] = callback.dirpath


def _check(callback: L.Callback, state: Any, **kinds: type) -> None:
    for key, kind in kinds.items():
        if not isinstance(state, dict) or not isinstance(state.get(key), kind):
            raise ValueError(
                f"the checkpoint holds a damaged state of {type(callback).__name__}: expected "
                f"{key} as {kind.__name__}"
            )


def _own(callback: ModelCheckpoint, path: Any) -> str:
    """The path in the callback's own folder; empty where no file of it has such a name."""
    name = PurePath(str(path)).name
    if not callback.dirpath or not re.fullmatch(_names(callback), name):
        return ""
    return str(Path(callback.dirpath) / name)


def _names(callback: ModelCheckpoint) -> str:
    """A pattern of the names that a callback gives to its files."""
    names = (callback.filename or "{epoch}-{step}", callback.CHECKPOINT_NAME_LAST)
    fixed = [map(re.escape, re.split(r"\{[^}]*\}", str(PurePath(each).name))) for each in names]
    chosen = "|".join(r"[^/\\]*".join(parts) for parts in fixed)
    return rf"(?:{chosen})(?:-v\d+)?{re.escape(callback.FILE_EXTENSION)}"
