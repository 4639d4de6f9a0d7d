"""What a tracker calls a run, noted in the run's folder, so that one that goes on is one there."""

from pathlib import Path

from milforge.processes.files import atomic_path


def read_id(path: str | Path | None) -> str | None:
    """What a file says that a run is called; None where there is no file, or nothing in it.

    Args:
        path: of the file; None: nothing is noted.
    """
    if path is None or not Path(path).is_file():
        return None
    return Path(path).read_text("utf-8", errors="replace").strip() or None


def note_id(path: str | Path | None, name: str) -> None:
    """Notes what a run is called.

    Args:
        path: of the file; None: nothing is noted.
        name: an id or a name, on one line.
    """
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(Path(path)) as partial:
            partial.write_text(f"{name}\n", "utf-8")
