"""Checkpoints that are whole, and the one before."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from milforge.processes.files import atomic_path
from milforge.processes.system_errors import refusal, shortage
from milforge.runs.checksums import check_sums
from milforge.runs.former_names import with_present_key

PREVIOUS = "previous.ckpt"


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there once it is whole.

    Lightning's own does so too, but by way of the system's folder of temporary files, and a move
    between file systems is a copy, which can be cut off. What `last.ckpt` was before stays as
    `previous.ckpt`: should a disk damage the one, the other is there to go on from.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes the checkpoint, whole or not at all.

        Raises:
            OSError: where it cannot be written; what was there before is still there.
        """
        path = Path(path)
        try:
            with atomic_path(path) as partial:
                # To a file of Python's own, which tells why it cannot be written.
                with partial.open("wb") as file:
                    torch.save(checkpoint, file)
                if path.name == "last.ckpt" and path.exists():
                    _keep(path, path.with_name(PREVIOUS))
        # torch makes an error of its own of it
        except (OSError, RuntimeError) as error:
            cause = str(refusal(error) or error).splitlines()[0]
            raise OSError(
                f"cannot write {path} ({cause}); the checkpoint before it is still there: "
                "free some room, and the run goes on with the same command and run=NAME, or "
                "sweep=NAME"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint; one that was written under a former name of the package, too."""
        return with_present_key(super().load_checkpoint(path, map_location, weights_only))


def _keep(path: Path, copy: Path) -> None:
    """A second name for a file, which takes no room and leaves the first in its place."""
    with atomic_path(copy) as partial:
        try:
            os.link(path, partial)
        except OSError:  # a file system without links
            partial.write_bytes(path.read_bytes())


def last_whole(folder: Path) -> tuple[Path | None, list[Path]]:
    """The checkpoint of a run's folder to go on from, and those before it that cannot be read.

    Args:
        folder: the folder of the checkpoints.
    """
    damaged: list[Path] = []
    for name in ("last.ckpt", PREVIOUS):
        path = folder / name
        if path.is_file():
            if is_whole(path):
                return path, damaged
            damaged.append(path)
    return None, damaged


def is_whole(path: Path) -> bool:
    """Whether a checkpoint can be read to its end, and is what was written.

    Raises:
        OSError: where memory or file handles are lacking, which says nothing of the file.
    """
    try:
        check_sums(path)
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        lacking = shortage(error)
        if lacking is not None:
            raise OSError(
                f"{path}: expected a checkpoint that can be read, got {': '.join(lacking)}"
            ) from error
        return False
    return True
