"""What a command prints when it is done."""

from collections.abc import Mapping
from pathlib import Path


def print_run(
    metrics: Mapping[str, float], folder: Path, checkpoint: str | None, wandb: str | None
) -> None:
    """Prints the test metrics and where everything was written."""
    shown = {name: value for name, value in metrics.items() if name.startswith("test/")} or metrics
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {value:.4f}")
    print(f"\nrun          {_short(folder)}")
    if checkpoint is not None:
        print(f"checkpoint   {_short(checkpoint)}")
    for name in ("figures", "predictions"):
        if (folder / name).is_dir():
            print(f"{name:<12} {_short(folder / name)}")
    if wandb is not None:
        print(f"W&B          wandb sync {_short(wandb)}")


def _short(path: str | Path) -> Path:
    """The path as one would type it: from the current directory where it lies below it."""
    path = Path(path)
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
