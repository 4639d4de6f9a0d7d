"""The predictions of each bag, gathered from all processes."""

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
        columns: what is predicted, 0-dim or `(K,)` each, by the names of the task; and `logits`.
        scores: `(N,)` attention scores, None where the pooling has none.
        weights: `(N,)` attention weights, None where the pooling has none.
        y_inst: `(N,)` instance labels, None where there are none.
        coords: `(N, 2)` or `(N, 3)`, None where there are none.
        size: N.
        images: `(N, C, H, W)` instances, kept for figures only.
        sampled: whether the instances are patches drawn of a large image.
        part: the part that it is of: val, test or calibration.
        slide: `(N,)` which slide of a patient an instance is of, None where bags are slides.
    """

    bag_id: str
    y: Tensor | None
    columns: Mapping[str, Tensor]
    scores: Tensor | None
    weights: Tensor | None
    y_inst: Tensor | None
    coords: Tensor | None
    size: int
    images: Tensor | None = None
    sampled: bool = False
    part: str = "test"
    slide: Tensor | None = None


def stacked(records: Sequence[BagRecord]) -> dict[str, Tensor]:
    """The columns of all records, `(n,)` or `(n, K)` each."""
    names = records[0].columns if records else {}
    return {name: torch.stack([record.columns[name] for record in records]) for name in names}


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

    def keep_images(self, module: L.LightningModule, record: BagRecord) -> bool:
        """Whether the instances of this bag are wanted beside its record."""
        return False

    def keep_instances(self, module: L.LightningModule, record: BagRecord) -> bool:
        """Whether what is known of the instances of this bag is wanted, which may be large."""
        return True

    def on_test_batch_end(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: BagBatch | ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add(pl_module, outputs, batch, "test")

    def on_predict_batch_end(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: BagBatch | ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add(pl_module, outputs, batch, predicted_part(trainer))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._finish(trainer, pl_module, "test")

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._finish(trainer, pl_module, "predict")

    def _add(
        self,
        module: L.LightningModule,
        outputs: Mapping[str, Any],
        batch: BagBatch | ImageBatch,
        part: str,
    ) -> None:
        starts = accumulate(outputs["sizes"].tolist(), initial=0)
        for record, start in zip(records_of(outputs, batch, part), starts, strict=False):
            if not self.keep_instances(module, record):
                bare = replace(
                    record, scores=None, weights=None, y_inst=None, coords=None, slide=None
                )
                self._records.append(bare)
                continue
            x = batch.x if isinstance(batch, BagBatch) else None
            if isinstance(x, Tensor) and x.ndim == 4 and self.keep_images(module, record):
                images = _own(x[start : start + record.size])
                self._records.append(replace(record, images=images))
            else:
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


def records_of(
    outputs: Mapping[str, Any], batch: BagBatch | ImageBatch, part: str
) -> list[BagRecord]:
    """A record of each bag of a batch.

    Args:
        outputs: what a step of the module returned; see `milforge.training.BagPredictions`.
        batch: the bags.
        part: the part that they are of.
    """
    sizes = outputs["sizes"].tolist()

    def split(name: str) -> Sequence[Tensor | None]:
        if name not in outputs:
            return [None] * len(batch)
        return [_own(each) for each in torch.split(outputs[name], sizes)]

    columns = outputs["columns"]
    rows = zip(
        batch.bag_id,
        [None] * len(batch) if batch.y is None else map(_own, batch.y.cpu()),
        [{name: _own(each[i]) for name, each in columns.items()} for i in range(len(batch))],
        split("scores"),
        split("weights"),
        split("y_inst"),
        split("coords"),
        sizes,
        strict=True,
    )
    sampled = isinstance(batch, ImageBatch)
    slides: Sequence[Tensor | None] = [None] * len(batch)
    if isinstance(batch, BagBatch) and batch.slide is not None:
        slides = [_own(each) for each in torch.split(batch.slide, sizes)]
    return [
        replace(BagRecord(*row), sampled=sampled, part=part, slide=slide)
        for row, slide in zip(rows, slides, strict=True)
    ]


def predicted_part(trainer: L.Trainer) -> str:
    """The part whose bags are predicted, as the DataModule says; test where it says nothing."""
    data = getattr(trainer, "datamodule", None)
    return str(getattr(data, "predicted", "test"))


def _own(part: Tensor) -> Tensor:
    """A copy on the host: a view would keep the batch, and be pickled with all of it."""
    return part.to("cpu", copy=True)
