"""What was said about each bag, gathered from all processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, zip_longest
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from milforge.data import BagBatch, ImageBatch


@dataclass(frozen=True, eq=False)
class BagRecord:
    """One evaluated bag.

    Args:
        bag_id: its name.
        y: bag label, 0-dim or `(C,)`; None where unknown.
        probabilities: 0-dim (binary: of the positive class) or `(C,)`.
        scores: `(N,)` attention scores, None where the pooling has none.
        weights: `(N,)` attention weights, likewise.
        y_inst: `(N,)` instance labels, None where there are none.
        coords: `(N, 2)` or `(N, 3)`, None where there are none.
        size: N.
        images: `(N, C, H, W)` instances, kept for figures only.
        sampled: whether the instances are patches drawn of a large image.
    """

    bag_id: str
    y: Tensor | None
    probabilities: Tensor
    scores: Tensor | None
    weights: Tensor | None
    y_inst: Tensor | None
    coords: Tensor | None
    size: int
    images: Tensor | None = None
    sampled: bool = False


class RecordCollector(Callback):
    """Collects a record of each bag in test and prediction, and hands them over in order.

    A subclass overrides `finish`, which runs on one process with the records of all.
    """

    def __init__(self) -> None:
        self._records: list[BagRecord] = []

    def finish(
        self, trainer: L.Trainer, module: L.LightningModule, records: list[BagRecord], stage: str
    ) -> None:
        """Does something with the records.

        Args:
            trainer: the running trainer.
            module: its module.
            records: one a bag, in the order of the data set.
            stage: `test` or `predict`.
        """
        raise NotImplementedError

    def keep_images(self, record: BagRecord) -> bool:
        """Whether the instances of this bag are wanted beside its record."""
        return False

    def on_test_batch_end(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: BagBatch | ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add(outputs, batch)

    def on_predict_batch_end(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: BagBatch | ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add(outputs, batch)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._finish(trainer, pl_module, "test")

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._finish(trainer, pl_module, "predict")

    def _add(self, outputs: Mapping[str, Tensor], batch: BagBatch | ImageBatch) -> None:
        sizes = outputs["sizes"].tolist()

        def split(name: str) -> Sequence[Tensor | None]:
            if name not in outputs:
                return [None] * len(batch)
            return [_own(part) for part in torch.split(outputs[name], sizes)]

        columns = zip(
            batch.bag_id,
            [None] * len(batch) if batch.y is None else map(_own, batch.y.cpu()),
            map(_own, outputs["probabilities"]),
            split("scores"),
            split("weights"),
            split("y_inst"),
            split("coords"),
            sizes,
            strict=True,
        )
        starts = accumulate(sizes, initial=0)
        for row, start in zip(columns, starts, strict=False):
            record = replace(BagRecord(*row), sampled=isinstance(batch, ImageBatch))
            x = batch.x if isinstance(batch, BagBatch) else None
            if isinstance(x, Tensor) and x.ndim == 4 and self.keep_images(record):
                record = replace(record, images=_own(x[start : start + record.size]))
            self._records.append(record)

    def _finish(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        records, self._records = self._records, []
        if trainer.world_size > 1:
            shards: list[Any] | None = None
            if trainer.is_global_zero:
                shards = [None] * trainer.world_size
            torch.distributed.gather_object(records, shards)
            if shards is None:
                return
            # Process r holds the bags r, r + world size, ...
            dealt = chain.from_iterable(zip_longest(*shards))
            records = [record for record in dealt if record is not None]
        self.finish(trainer, module, records, stage)


def _own(part: Tensor) -> Tensor:
    """A copy on the host: a view would keep the batch, and be pickled with all of it."""
    return part.to("cpu", copy=True)
