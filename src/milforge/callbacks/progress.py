"""Progress: a bar on a terminal, a line an epoch elsewhere."""

import sys
from time import monotonic
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar


class EpochLines(ProgressBar):
    """One plain line an epoch on standard error, for logs and files."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._start = 0.0

    def disable(self) -> None:
        """Says nothing: called on all processes but one."""
        self._enabled = False

    def enable(self) -> None:
        """Speaks again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Starts the clock; a run that goes on may do so inside an epoch."""
        self._start = monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Starts the clock of the epoch."""
        self._start = monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Writes the line: some validation metrics, which are known by now."""
        metrics = trainer.callback_metrics
        shown = [
            name for name in _wanted(getattr(trainer, "lightning_module", None)) if name in metrics
        ]
        values = "  ".join(f"{name} {metrics[name]:.4f}" for name in shown)
        self._print(
            f"epoch {trainer.current_epoch:3d} of {trainer.max_epochs}  "
            f"{monotonic() - self._start:5.1f} s  {values}"
        )

    def on_test_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Says that the test begins."""
        self._print("testing")

    def on_predict_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Says that prediction begins."""
        self._print("predicting")

    def _print(self, line: str) -> None:
        if self._enabled:
            print(line, file=sys.stderr, flush=True)


def _wanted(module: Any) -> list[str]:
    """The loss, what chooses the epoch, the task's first metric, and how well instances are found.

    A metric of several outputs is that of the first.
    """
    first = next(iter(getattr(getattr(module, "task", None), "metric_types", ())), "auroc")
    monitor = getattr(module, "monitor", "val/loss")
    names = ("val/loss", monitor, f"val/{first}", f"val/{first}_0", "val/inst_auroc")
    return list(dict.fromkeys(names))


def progress() -> ProgressBar:
    """A bar where standard error is a terminal, else a line an epoch."""
    return TQDMProgressBar(leave=False) if sys.stderr.isatty() else EpochLines()
