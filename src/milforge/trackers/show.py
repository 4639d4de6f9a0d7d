"""Figures, pictures, tables and panels to any tracker that can show them.

A tracker that has `log_image` and `log_table`, as Lightning's logger of W&B and those of this
package do, is handed them; TensorBoard is asked in its own words.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from numpy.typing import NDArray

from milforge.plots.panels import Panel

Picture = NDArray[np.uint8]

# What W&B calls its own drawings, and how their axes are named.
_AREA = "wandb/area-under-curve/v0"
_AXES = {"roc": ("False positive rate", "True positive rate"), "pr": ("Recall", "Precision")}
_TITLES = {"roc": "ROC", "pr": "Precision-recall", "confusion": "Confusion matrix"}


def shows_pictures(logger: Logger) -> bool:
    """Whether a tracker takes pictures and tables."""
    return hasattr(logger, "log_image") or isinstance(logger, TensorBoardLogger)


def show_figure(logger: Logger, name: str, path: Path, figure: Figure, step: int) -> None:
    """A figure that has been written to a file."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(name, figure, step)
    elif hasattr(logger, "log_image"):
        logger.log_image(name, [str(path)])


def show_pictures(
    logger: Logger,
    pictures: Mapping[str, Picture],
    captions: Mapping[str, str],
    step: int,
    epoch: int,
) -> None:
    """Pictures by name, each with a caption; in W&B at their epoch."""
    if isinstance(logger, WandbLogger) and pictures:
        import wandb

        # With the epoch: W&B would take it from what was logged before.
        shown: dict[str, Any] = {"epoch": epoch}
        for name, picture in pictures.items():
            shown[name] = wandb.Image(picture, caption=captions[name])
        logger.log_metrics(shown, step)
        return
    for name, picture in pictures.items():
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")
        elif hasattr(logger, "log_image"):
            logger.log_image(name, [picture], step=step, caption=[captions[name]])


def show_table(
    logger: Logger, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
) -> None:
    """Rows, in which arrays are pictures."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text(name, markdown(columns, rows), step)
    elif isinstance(logger, WandbLogger):
        import wandb

        data = [[wandb.Image(v) if _is_picture(v) else v for v in row] for row in rows]
        logger.log_table(name, columns=list(columns), data=data)
    elif hasattr(logger, "log_table"):
        logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])


def show_panel(logger: Logger, name: str, panel: Panel, step: int) -> None:
    """A panel: in W&B its own drawing, elsewhere a table; a table is one everywhere."""
    if not panel.rows:
        return
    if isinstance(logger, WandbLogger) and panel.kind != "table":
        logger.log_metrics({name: _chart(panel)})
    elif panel.kind in ("table", "confusion"):
        show_table(logger, name, panel.columns, panel.rows, step)


def _chart(panel: Panel) -> Any:
    import wandb

    table = wandb.Table(columns=list(panel.columns), data=[list(row) for row in panel.rows])
    words = {"title": _TITLES[panel.kind]}
    if panel.kind == "confusion":
        fields = {name: name for name in panel.columns}
        return wandb.plot_table("wandb/confusion_matrix/v1", table, fields, words)
    across, up = _AXES[panel.kind]
    fields = dict(zip(("class", "x", "y"), panel.columns, strict=True))
    words |= {"x-axis-title": across, "y-axis-title": up}
    return wandb.plot_table(_AREA, table, fields, words)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    r"""A table in Markdown, without pictures.

    Example:
        >>> print(markdown(["bag", "p"], [["a|b", 0.51234]]))
        | bag | p |
        | --- | --- |
        | a\|b | 0.5123 |
    """
    shown = [i for i in range(len(columns)) if not any(_is_picture(row[i]) for row in rows)]
    lines = [[columns[i] for i in shown], ["---"] * len(shown)]
    lines += [[_cell(row[i]) for i in shown] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray)
