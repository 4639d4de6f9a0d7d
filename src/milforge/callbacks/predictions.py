"""Predictions as Parquet files and as a table in the run's log."""

from pathlib import Path
from typing import Any, cast

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch.loggers import WandbLogger

from milforge.callbacks.records import BagRecord, RecordCollector
from milforge.data.files import atomic_path


class PredictionWriter(RecordCollector):
    """Writes `bags.parquet` and `instances.parquet` after test and prediction.

    `bags.parquet`, a row a bag: `bag_id`; `label` (null where unknown; `label_0`, `label_1`, ...
    for a multilabel task); `probability_0`, `probability_1`, ... in the order of the classes,
    whose names stand in the file's metadata under `class_names`.

    `instances.parquet`, a row an instance: `bag_id`; `index`, the instance's number in its bag;
    `coord_0`, ... where there are coords, null in a bag without them or without that axis;
    attention `score` and `weight`, null where the pooling has none; `label`, null where unknown.

    Args:
        folder: where to write.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)

    def finish(
        self, trainer: L.Trainer, module: L.LightningModule, records: list[BagRecord], stage: str
    ) -> None:
        """Writes both files, and the bags as a table to W&B where that is used."""
        names = cast(tuple[str, ...], module.class_names)
        bags = bags_table(records, names)
        for name, table in (("bags", bags), ("instances", instances_table(records))):
            with atomic_path(self.folder / f"{name}.parquet") as path:
                pq.write_table(table, path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows = [list(row.values()) for row in bags.to_pylist()]
                logger.log_table(f"{stage}/predictions", columns=bags.column_names, data=rows)


def bags_table(records: list[BagRecord], class_names: tuple[str, ...]) -> pa.Table:
    """One row a bag; the columns are those of `PredictionWriter`."""
    probabilities = torch.stack([record.probabilities for record in records])
    if probabilities.ndim == 1:
        probabilities = torch.stack([1 - probabilities, probabilities], dim=1)
    columns: dict[str, Any] = {"bag_id": pa.array([record.bag_id for record in records])}
    labels = [record.y for record in records]
    if any(label is not None and label.ndim == 1 for label in labels):
        for c in range(len(class_names)):
            columns[f"label_{c}"] = pa.array([None if y is None else int(y[c]) for y in labels])
    else:
        values = [None if y is None else int(y) for y in labels]
        columns["label"] = pa.array(values, pa.int64())
    for c in range(probabilities.shape[1]):
        columns[f"probability_{c}"] = probabilities[:, c].numpy()
    return pa.table(columns, metadata={"class_names": "\n".join(class_names)})


def instances_table(records: list[BagRecord]) -> pa.Table:
    """One row an instance; the columns are those of `PredictionWriter`."""
    sizes = torch.tensor([record.size for record in records])
    total = int(sizes.sum())
    names = pa.array([record.bag_id for record in records])
    bag = torch.repeat_interleave(torch.arange(len(records)), sizes)
    index = torch.cat([torch.arange(record.size) for record in records])
    columns: dict[str, Any] = {
        "bag_id": pa.DictionaryArray.from_arrays(bag.int().numpy(), names).dictionary_decode(),
        "index": index.numpy(),
    }
    coords = [record.coords for record in records if record.coords is not None]
    for axis in range(max((each.shape[1] for each in coords), default=0)):
        columns[f"coord_{axis}"] = _coords(records, axis)
    for name in ("score", "weight"):
        parts = [getattr(record, f"{name}s") for record in records]
        known = all(part is not None for part in parts)
        columns[name] = torch.cat(parts).numpy() if known else pa.nulls(total, pa.float32())
    unknown = [torch.full((record.size,), -1) for record in records]
    labels = torch.cat(
        [
            missing if record.y_inst is None else record.y_inst
            for record, missing in zip(records, unknown, strict=True)
        ]
    ).numpy()
    columns["label"] = pa.array(labels, mask=labels < 0)
    return pa.table(columns)


def _coords(records: list[BagRecord], axis: int) -> pa.Array:
    """The coords of all instances along an axis, null in bags that do not have it."""
    parts = [
        None if r.coords is None or r.coords.shape[1] <= axis else r.coords[:, axis]
        for r in records
    ]
    missing = [torch.full((r.size,), p is None) for r, p in zip(records, parts, strict=True)]
    # What stands for missing ones is bool, which leaves the others the dtype that they have.
    values = [m if p is None else p for p, m in zip(parts, missing, strict=True)]
    return pa.array(torch.cat(values).numpy(), mask=torch.cat(missing).numpy())
