"""A run's folder: what was run, and what came out."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from milforge.runs.former_names import with_present_targets
from milforge.runs.read_files import read_summary, read_yaml

QUIET_SECONDS = 15 * 60  # a run without a summary that wrote nothing for so long is not running


@dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        folder: as it was found from the folder that the user named.
        state: `finished` or `failed` as its summary says; without a summary `running`, or
            `stopped` where nothing was written for a quarter of an hour; `unreadable` where a file
            is damaged.
        config: dotted key to value, as text that the command line would take.
        overrides: of its command line, name to value.
        metrics: the finite ones.
        monitor: the metric that chose its epoch.
        fingerprint: of its data.
        written: when its summary was written, in seconds.
        fault: what is wrong with it.
        seen: how many of its test bags its checkpoints were trained on.
        summary: its `summary.json`.
    """

    folder: Path
    state: str
    config: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    monitor: str | None = None
    fingerprint: str | None = None
    written: float = 0.0
    fault: str = ""
    seen: int = 0
    summary: dict[str, Any] = field(default_factory=dict)


def read_run(folder: Path) -> Run:
    """Reads a run's folder, as far as it is there."""
    config: dict[str, str] = {}
    overrides: dict[str, str] = {}
    try:
        if (folder / "config.yaml").is_file():
            config = dict(_flat(with_present_targets(read_yaml(folder / "config.yaml"))))
        if (folder / "overrides").is_file():
            overrides = parse_overrides(_lines(folder / "overrides"))
        if not (folder / "summary.json").is_file():
            idle = time() - _last_change(folder)
            return Run(folder, "stopped" if idle > QUIET_SECONDS else "running", config, overrides)
        summary = read_summary(folder / "summary.json")
        if not config and summary.get("status") == "finished":
            raise ValueError("it has a summary.json but no config.yaml")
    except (ValueError, OSError) as error:
        return Run(folder, "unreadable", config, overrides, fault=" ".join(str(error).split()))
    return Run(
        folder,
        "finished" if summary.get("status") == "finished" else "failed",
        config,
        overrides,
        metrics={
            name: float(value)
            for name, value in summary["metrics"].items()
            if value is not None and math.isfinite(value)
        },
        monitor=summary.get("monitor"),
        fingerprint=(summary.get("data") or {}).get("fingerprint"),
        written=(folder / "summary.json").stat().st_mtime,
        fault=" ".join(str(summary.get("error") or "").split()),
        seen=_seen(summary.get("seen_in_training")),
        summary=summary,
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error


def _seen(told: Any) -> int:
    count = told.get("bags") if isinstance(told, dict) else None
    return count if isinstance(count, int) else 0


def parse_overrides(lines: Sequence[str]) -> dict[str, str]:
    """Overrides of a command line as name and value.

    Example:
        >>> parse_overrides(["model=abmil", "+split.fold=3", "graph@other.graph='grid'"])
        {'model': 'abmil', 'split.fold': '3', 'other.graph': 'grid'}
    """
    found = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not name.startswith("~"):
            found[name.lstrip("+").split("@")[-1]] = value.strip("'\"")
    return found


def as_text(value: Any) -> str:
    """A value of a config as the command line would take it.

    Example:
        >>> [as_text(value) for value in (None, True, 1e-3, [64, 32], "tanh", {})]
        ['null', 'true', '0.001', '[64,32]', 'tanh', '{}']
    """
    if isinstance(value, list):
        return f"[{','.join(map(as_text, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", as_text(value)


def _last_change(folder: Path) -> float:
    newest = folder.stat().st_mtime
    for path in folder.rglob("*"):
        with suppress(OSError):  # a run writes its files beside their places; links may be broken
            newest = max(newest, path.stat().st_mtime)
    return newest
