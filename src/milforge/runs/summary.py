"""`summary.json`: what a run was and what came out, written last."""

import json
import math
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from milforge.processes.files import atomic_path

PACKAGES = ("milforge", "torch", "lightning", "hydra-core", "torchmetrics", "wandb", "numpy")


def write_summary(folder: str | Path, **content: Any) -> None:
    """Writes `summary.json` whole or not at all; a value that is no number becomes null."""
    summary = {
        "status": "finished",
        **content,
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "git_commit": git_commit(),
    }
    with atomic_path(Path(folder) / "summary.json") as path:
        path.write_text(json.dumps(_finite(summary), indent=2) + "\n")


def _version(package: str) -> str | None:
    """The version of a package; None where it runs from its source and is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of the repository of the current directory, or None."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
