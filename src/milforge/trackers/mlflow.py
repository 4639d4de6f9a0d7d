"""MLflow with pictures and tables, under the names that Lightning's logger of W&B has for them."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only


class MLflow(MLFlowLogger):
    """Lightning's logger of MLflow, which logs pictures and tables too, as artifacts of the run.

    The arguments are those of `lightning.pytorch.loggers.MLFlowLogger`; what goes to a server is
    what its `tracking_uri` says.
    """

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
