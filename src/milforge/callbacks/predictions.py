"""Predictions as Parquet files and as a table in the run's log."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from milforge.callbacks.never_fatal import never_fatal
from milforge.callbacks.records import BagRecord, RecordCollector, stacked
from milforge.processes.files import atomic_path
from milforge.tasks import Multi, Task


class PredictionWriter(RecordCollector):
    """Writes `bags.parquet` and `instances.parquet` after test and prediction.

    `bags.parquet`, a row per bag: `bag_id`; `part` (val, test or calibration); `patient`, null
    where unknown; `size`, the number of its instances; `order`, its number in its part; the label,
    null where unknown, in the columns of the task (`label`, or `label_0`, `label_1`, ... where a
    bag has several); what is predicted, in the columns of the task (`probability_0`,
    `probability_1`, ... in the order of the classes); `logit_0`, ...; and the other columns of the
    label table, with the prefix `table_`. In the file's metadata stand `task` and `class_names`, a
    line each; of a task of several targets `targets`, as JSON from name to these two.

    `instances.parquet`, a row per instance: `bag_id`; `part`; `index`, the instance's number in
    its bag; `slide`, of bags that are patients, its number among the bag's `table_slides`, from 0;
    `coord_0`, ... where there are coords, null in a bag without them or without that
    axis; attention `score` and `weight`, null where the pooling has none; `label`, null where
    unknown.

    Args:
        folder: where to write.
        instances: whether to write `instances.parquet`, for which what is known of all instances
            is held in memory until the end.
    """

    def __init__(self, folder: str | Path, instances: bool = True) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.instances = instances
        self._parts: dict[str, list[BagRecord]] = {}

    def keep_instances(self, module: L.LightningModule, record: BagRecord) -> bool:
        """Where they are written."""
        return self.instances

    def finish(
        self, trainer: L.Trainer, module: L.LightningModule, records: list[BagRecord], stage: str
    ) -> None:
        """Writes the files, and the bags as a table to trackers that take tables."""
        part = records[0].part if records else "test"
        self._parts[part] = records
        everything = [each for records in self._parts.values() for each in records]
        task = cast(Task, module.task)
        info = getattr(getattr(trainer, "datamodule", None), "info", None)
        bags = bags_table(everything, task, info)
        tables = {"bags": bags}
        if self.instances:
            tables["instances"] = instances_table(everything)
        for name, table in tables.items():
            with atomic_path(self.folder / f"{name}.parquet") as path:
                pq.write_table(table, path)
        for logger in trainer.loggers:
            if hasattr(logger, "log_table"):
                shown = bags_table(records, task, info)
                rows = [list(row.values()) for row in shown.to_pylist()]
                with never_fatal("a tracker did not get the table of predictions"):
                    logger.log_table(f"{part}/predictions", columns=shown.column_names, data=rows)


def bags_table(
    records: list[BagRecord], task: Task, info: Callable[[str, str], Any] | None = None
) -> pa.Table:
    """One row per bag; the columns are those of `PredictionWriter`.

    Args:
        records: the bags.
        task: names the columns.
        info: gives the `group` and the other `columns` of a bag by its part and name.
    """
    known = [None if info is None else info(each.part, each.bag_id) for each in records]
    counted: Counter[str] = Counter()
    order = []
    for record in records:
        order.append(counted[record.part])
        counted[record.part] += 1
    columns: dict[str, Any] = {
        "bag_id": pa.array([record.bag_id for record in records], pa.string()),
        "part": pa.array([record.part for record in records], pa.string()),
        "patient": pa.array([None if k is None else k.group for k in known], pa.string()),
        "size": pa.array([record.size for record in records], pa.int64()),
        "order": pa.array(order, pa.int64()),
    }
    columns |= _labels(records, task)
    for name, values in stacked(records).items():
        short = "logit" if name == "logits" else name
        if values.ndim == 1:
            columns[short] = values.numpy()
        else:
            columns |= {f"{short}_{c}": values[:, c].numpy() for c in range(values.shape[1])}
    others = {name: None for each in known if each is not None for name in each.columns}
    for name in others:
        texts = [None if k is None else k.columns.get(name) for k in known]
        columns[f"table_{name}"] = pa.array(texts, pa.string())
    metadata = {"task": type(task).__name__, "class_names": "\n".join(task.class_names)}
    if isinstance(task, Multi):
        targets = {
            name: {"task": type(each.task).__name__, "class_names": each.task.class_names}
            for name, each in task.targets.items()
        }
        metadata["targets"] = json.dumps(targets)
    return pa.table(columns, metadata=metadata)


def _labels(records: list[BagRecord], task: Task) -> dict[str, Any]:
    """The label columns, null in bags without a label."""
    labels = [record.y for record in records if record.y is not None]
    if not labels:
        return {"label": pa.nulls(len(records), pa.int64())}
    missing = [record.y is None for record in records]
    filled = torch.stack([labels[0] if r.y is None else r.y for r in records])
    return {
        name: pa.array(values.numpy(), mask=np.array(missing) | values.isnan().numpy())
        for name, values in task.label_columns(filled).items()
    }


def instances_table(records: list[BagRecord]) -> pa.Table:
    """One row per instance; the columns are those of `PredictionWriter`."""
    sizes = torch.tensor([record.size for record in records])
    total = int(sizes.sum())
    names = pa.array([record.bag_id for record in records])
    part = pa.array([record.part for record in records])
    bag = torch.repeat_interleave(torch.arange(len(records)), sizes)
    index = torch.cat([torch.arange(record.size) for record in records])
    columns: dict[str, Any] = {
        "bag_id": pa.DictionaryArray.from_arrays(bag.int().numpy(), names).dictionary_decode(),
        "part": pa.DictionaryArray.from_arrays(bag.int().numpy(), part).dictionary_decode(),
        "index": index.numpy(),
    }
    slides = [record.slide for record in records if record.slide is not None]
    if slides and len(slides) == len(records):
        columns["slide"] = torch.cat(slides).numpy()
    coords = [record.coords for record in records if record.coords is not None]
    for axis in range(max((each.shape[1] for each in coords), default=0)):
        columns[f"coord_{axis}"] = _coords(records, axis)
    for name in ("score", "weight"):
        values = [getattr(record, f"{name}s") for record in records]
        known = all(each is not None for each in values)
        columns[name] = torch.cat(values).numpy() if known else pa.nulls(total, pa.float32())
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
