"""The states of callbacks in a checkpoint, as a run may take them up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint


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

    Args:
        states: by the `state_key` of the callback; changed in place.
        callbacks: of the trainer.
    """
    for callback in callbacks:
        state = states.get(callback.state_key)
        if state is None:
            continue
        if isinstance(callback, EarlyStopping):
            state["patience"] = callback.patience
        elif isinstance(callback, ModelCheckpoint) and callback.dirpath:
            folder = Path(callback.dirpath)
            for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                state[key] = _within(folder, state[key])
            kept = state["best_k_models"].items()
            state["best_k_models"] = {_within(folder, path): score for path, score in kept}
            state["dirpath"] = callback.dirpath


def _within(folder: Path, path: str) -> str:
    return str(folder / Path(path).name) if path else path
