"""The names of the folders that runs and sweeps write to."""

from contextlib import suppress
from datetime import datetime
from pathlib import Path

# Parent to the folder that this process has made there: every key that asks gets the same one.
_folders: dict[str, str] = {}


def forget() -> None:
    """Forgets the folders of a command before this one, in the same process."""
    _folders.clear()


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def run_dir(parent: str, run: str | None) -> str:
    """The folder of a run, by its name; without a name a new one.

    Raises:
        ValueError: for a name that is none, or that leads out of the parent.
    """
    return _named_folder(parent, "run", run) if run is not None else _new_folder(parent)


def sweep_dir(parent: str, name: str | None) -> str:
    """The folder of a sweep, by its name; without a name a new one.

    Raises:
        ValueError: as `run_dir` does.
    """
    folder = _named_folder(parent, "sweep", name) if name is not None else _new_folder(parent)
    _folders[parent] = folder
    return folder


def _named_folder(parent: str, key: str, name: str) -> str:
    if not name.strip():
        raise ValueError(
            f"{key}= is empty (a shell variable that is not set?): give {key}=NAME, or leave it "
            "out for a folder of its own"
        )
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not parts:
        raise ValueError(
            f"{key}={name} is no folder inside {parent}: give a name; "
            "paths.log_dir=FOLDER says where all runs are written"
        )
    return str(Path(parent) / name)


def _new_folder(parent: str) -> str:
    """A folder of this second's name, with a number where the second is taken; made at once."""
    if parent not in _folders:
        name, n = _now(), 1
        while True:
            folder = Path(parent) / (name if n == 1 else f"{name}_{n}")
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                n += 1
        _folders[parent] = str(folder)
    return _folders[parent]


def sweep_folder() -> Path | None:
    """The folder of the sweep, or run, that was named last."""
    return Path(list(_folders.values())[-1]) if _folders else None


def remove_empty() -> None:
    """Leaves no folder behind for a run that never began."""
    for folder in _folders.values():
        with suppress(OSError):
            Path(folder).rmdir()
