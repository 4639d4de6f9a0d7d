"""A figure into the run's folder and its log."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
from matplotlib.figure import Figure

from milforge.callbacks.never_fatal import never_fatal
from milforge.processes.files import atomic_path
from milforge.trackers.show import show_figure


def write_figure(trainer: L.Trainer, folder: Path, name: str, draw: Callable[[], Figure]) -> None:
    """Writes `NAME.png` and logs it to every tracker that takes pictures as `figures/NAME`.

    A figure that cannot be drawn, written or logged is warned about: no run loses what was computed
    for a picture of it.
    """
    path = folder / f"{name}.png"
    with never_fatal(f"figure {name} was not drawn"):
        figure = draw()
        with atomic_path(path) as partial:
            figure.savefig(partial, format="png", dpi=150)
        for logger in trainer.loggers:
            show_figure(logger, f"figures/{name}", path, figure, trainer.global_step)
