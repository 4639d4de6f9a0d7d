"""Trackio, under the names that Lightning's loggers have."""

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from milforge.trackers.run_id import note_id, read_id


class Trackio(Logger):
    """A run of Trackio: kept on this machine, and shown by `trackio show`.

    It begins with the first call. What is logged after its end, as a test after training, goes on
    with it.

    Args:
        project: the project that the run is one of.
        folder: where Trackio keeps its files; None: where its environment variable TRACKIO_DIR
            says, or in the user's home. It holds for the first run of a process.
        name: of the run; None: Trackio chooses one.
        group: W&B's word for the runs of a sweep.
        space_id: a Hugging Face space that shows the runs; None: this machine alone.
        id_file: notes the name of the run, which a run that goes on finds there.

    Raises:
        ModuleNotFoundError: where Trackio is not installed.
    """

    def __init__(
        self,
        project: str = "milforge",
        folder: str | Path | None = None,
        name: str | None = None,
        group: str | None = None,
        space_id: str | None = None,
        id_file: str | Path | None = None,
    ) -> None:
        super().__init__()
        if folder is not None:
            os.environ.setdefault("TRACKIO_DIR", str(Path(folder).resolve()))
        import trackio  # it waits for a web server's packages

        self._trackio = trackio
        self._project = project
        self._group = group
        self._space_id = space_id
        self._id_file = id_file
        known = read_id(id_file)
        self._name = known or name
        self._goes_on = known is not None
        self._config: dict[str, Any] = {}
        self._run: Any = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Trackio's run, of the first process."""
        if self._run is None:
            self._run = self._trackio.init(
                project=self._project,
                name=self._name,
                group=self._group,
                config=dict(self._config),  # that of the last part replaces the one before
                space_id=self._space_id,
                resume="allow" if self._goes_on else "never",
                embed=False,
            )
            if not self._goes_on:
                note_id(self._id_file, self._run.name)
            self._name, self._goes_on = self._run.name, True
        return self._run

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The name of the run; empty before it has one."""
        return self._name or ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Logs the config."""
        found = vars(params) if isinstance(params, Namespace) else params
        self._config.update(found)
        self.experiment.config.update(found)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs values by name. Trackio counts its own steps: several calls would share one."""
        self.experiment.log({**metrics, **({} if step is None else {"trainer/global_step": step})})

    @rank_zero_only
    def log_image(
        self,
        key: str,
        images: list[Any],
        step: int | None = None,
        caption: list[str] | None = None,
    ) -> None:
        """Logs pictures, `(H, W, 3)` uint8 or paths of files; `caption` lists a text for each."""
        texts = caption or [None] * len(images)  # type: ignore[list-item]
        names = [key] if len(images) == 1 else [f"{key}_{i}" for i in range(len(images))]
        pictures = {
            name: self._trackio.Image(image, caption=text)
            for name, image, text in zip(names, images, texts, strict=True)
        }
        self.log_metrics(pictures, step)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Logs rows; an array in a cell is a picture."""
        rows = [[self._cell(value) for value in row] for row in data]
        self.experiment.log({key: self._trackio.Table(columns=columns, data=rows)})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run, for now."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _cell(self, value: Any) -> Any:
        return self._trackio.Image(value) if isinstance(value, np.ndarray) else value
