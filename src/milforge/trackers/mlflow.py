"""MLflow with pictures and tables, under the names that Lightning's logger of W&B has for them."""

import csv
import io
import re
from argparse import Namespace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from milforge.trackers.run_id import note_id, read_id


class MLflow(MLFlowLogger):
    """Lightning's logger of MLflow, which logs pictures and tables too, as artifacts of the run.

    Args:
        experiment_name: the runs that its page shows together.
        run_name: None: MLflow chooses one.
        tracking_uri: where its server answers, or a database of SQLite.
        tags: of the run.
        log_model: whether it keeps the best checkpoints too; `all`: while the run trains.
        prefix: before the names of all metrics.
        artifact_location: of an experiment that is new; None: the server chooses.
        id_file: notes the id of the run, which a run that goes on finds there. Its config stays
            as it was begun with, because MLflow lets no parameter change.
    """

    def __init__(
        self,
        experiment_name: str = "milforge",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: dict[str, Any] | None = None,
        log_model: Literal[True, False, "all"] = False,
        prefix: str = "",
        artifact_location: str | None = None,
        id_file: str | Path | None = None,
    ) -> None:
        known = read_id(id_file)
        super().__init__(
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=tracking_uri,
            tags=tags,
            log_model=log_model,
            prefix=prefix,
            artifact_location=artifact_location,
            run_id=known,
        )
        self._id_file = id_file
        self._goes_on = self._is_noted = known is not None

    @property
    def experiment(self) -> Any:
        """MLflow's client; the first call begins the run, and notes its id."""
        client = super().experiment
        if not self._is_noted and self._run_id is not None:
            note_id(self._id_file, self._run_id)
            self._is_noted = True
        return client

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Logs the config, of a run that begins."""
        if not self._goes_on:
            super().log_hyperparams(params)

    @rank_zero_only
    def log_image(
        self,
        key: str,
        images: list[Any],
        step: int | None = None,
        caption: list[str] | None = None,
    ) -> None:
        """Logs pictures, `(H, W, 3)` uint8 or paths of files, as `KEY.png`.

        Args:
            key: the name, such as `figures/roc_pr`.
            images: the pictures; of several each has its number behind the name.
            step: stands in the name of an array, so that no epoch replaces another.
            caption: is left out, because an artifact has none.
        """
        folder, _, name = key.rpartition("/")
        for number, image in enumerate(images):
            if isinstance(image, str | Path):
                self.experiment.log_artifact(self.run_id, str(image), folder)
                continue
            parts = [name, *([] if step is None else [f"{step:08d}"])]
            parts += [str(number)] if len(images) > 1 else []
            file = "/".join(filter(None, [folder, f"{safe('_'.join(parts))}.png"]))
            self.experiment.log_image(self.run_id, np.asarray(image), file)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Logs rows as `KEY.csv`, without their pictures.

        Args:
            key: the name, such as `test/bags`.
            columns: their names.
            data: a value per column each.
        """
        shown = [i for i in range(len(columns)) if not any(_is_picture(row[i]) for row in data)]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([columns[i] for i in shown])
        writer.writerows([row[i] for i in shown] for row in data)
        folder, _, name = key.rpartition("/")
        file = "/".join(filter(None, [folder, f"{safe(name)}.csv"]))
        self.experiment.log_text(self.run_id, text.getvalue(), file)


def safe(name: str) -> str:
    """A name without what a path of an artifact may not have.

    Example:
        >>> safe("T1/2 (>5 cm)")
        'T1_2_5_cm_'
    """
    return re.sub(r"[^\w.-]+", "_", name)


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray)
