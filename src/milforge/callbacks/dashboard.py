"""What a tracker shows beside numbers: curves, confusion, bags, the same bags over epochs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger

from milforge.callbacks.never_fatal import never_fatal
from milforge.callbacks.records import BagRecord, RecordCollector, stacked
from milforge.data import BagBatch, ImageBatch
from milforge.plots.thumbnail import Picture, thumbnail
from milforge.tasks import Task
from milforge.trackers.show import show_panel, show_pictures, show_table, shows_pictures

COLUMNS = ("bag_id", "label", "prediction", "probability", "size")


class Dashboard(RecordCollector):
    """Tells every tracker that shows pictures what the bags of a run look like to the network.

    In every epoch `same_bags/0`, `same_bags/1`, ...: the attention over the first validation bags,
    the same ones each time, with what is predicted of them; after training the table
    `val/same_bags`. After a test the panels of the task, `panels/roc`, `panels/pr` and
    `panels/confusion` (in W&B its own drawings), `panels/per_class`, and the table `test/bags`.
    Nothing is done where no tracker shows pictures.

    Args:
        bags: test bags in the table `test/bags`, the first ones.
        same_bags: validation bags that are followed over the epochs; 0 follows none.
        artifacts: whether W&B gets the best checkpoint and a description of the data, with its
            fingerprint, as artifacts; the checkpoint is as large as the network.
    """

    def __init__(self, bags: int = 32, same_bags: int = 4, artifacts: bool = False) -> None:
        super().__init__()
        self.bags = bags
        self.same_bags = same_bags
        self.artifacts = artifacts
        self._followed: list[BagRecord] = []
        self._epochs: list[list[Any]] = []
        self._seen = 0

    def keep_instances(self, module: L.LightningModule, record: BagRecord) -> bool:
        """Those of the bags that are drawn."""
        self._seen += 1
        return self._seen <= self.bags

    def keep_images(self, module: L.LightningModule, record: BagRecord) -> bool:
        """Those of the bags that are drawn."""
        return True

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: BagBatch | ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the first bags."""
        left = self.same_bags - len(self._followed)
        if left <= 0 or not self._shown(trainer):
            return
        if not isinstance(outputs, Mapping):  # a module of one's own may return nothing
            return
        before, self._records, self._seen = self._records, [], self.bags - left
        self._add(pl_module, outputs, batch, "val")
        self._followed += self._records[:left]
        self._records, self._seen = before, 0

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows the bags that are followed, as the network sees them now."""
        records, self._followed = self._followed, []
        if not records or trainer.sanity_checking:
            return
        task, epoch = cast(Task, pl_module.task), trainer.current_epoch
        pictures, captions = {}, {}
        for number, record in enumerate(records):
            row = _row(record, task)
            self._epochs.append([epoch, *row])
            name, picture = f"same_bags/{number}", _picture(record)
            if picture is not None:
                pictures[name], captions[name] = picture, f"epoch {epoch}, {_words(row)}"
        for logger in self._shown(trainer):
            with never_fatal("a tracker did not get the bags that are followed"):
                show_pictures(logger, pictures, captions, trainer.global_step, epoch)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows what was predicted of the same bags in all epochs, and hands over artifacts."""
        rows, self._epochs = self._epochs, []
        for logger in self._shown(trainer):
            if rows:
                with never_fatal("a tracker did not get the table of the bags that are followed"):
                    names = ("epoch", *COLUMNS)
                    show_table(logger, "val/same_bags", names, rows, trainer.global_step)
            if self.artifacts and isinstance(logger, WandbLogger):
                with never_fatal("W&B did not get the artifacts"):
                    _log_artifacts(logger, trainer)

    def finish(
        self, trainer: L.Trainer, module: L.LightningModule, records: list[BagRecord], stage: str
    ) -> None:
        """Shows the panels of the task, and the first bags."""
        self._seen = 0
        labelled = [record for record in records if record.y is not None]
        shown = self._shown(trainer)
        if stage != "test" or not labelled or not shown:
            return
        task, step = cast(Task, module.task), trainer.global_step
        panels = {}
        with never_fatal("no panels for a tracker"):
            y = torch.stack([record.y for record in labelled if record.y is not None])
            panels = task.panels(stacked(labelled), y)
        rows = [[*_row(record, task), _picture(record)] for record in labelled[: self.bags]]
        for logger in shown:
            for name, panel in panels.items():
                with never_fatal(f"a tracker did not get the panel {name}"):
                    show_panel(logger, f"panels/{name}", panel, step)
            if rows:
                with never_fatal("a tracker did not get the table of bags"):
                    show_table(logger, "test/bags", (*COLUMNS, "picture"), rows, step)

    def _shown(self, trainer: L.Trainer) -> list[Logger]:
        """The trackers that show pictures; none but on the first process."""
        if not trainer.is_global_zero:
            return []
        return [logger for logger in trainer.loggers if shows_pictures(logger)]


def _row(record: BagRecord, task: Task) -> list[Any]:
    """What stands in the columns `COLUMNS`."""
    if record.y is None:
        return [record.bag_id, None, None, None, record.size]
    words = task.describe(record.columns, record.y)
    return [record.bag_id, words.truth, words.prediction, words.probability, record.size]


def _words(row: Sequence[Any]) -> str:
    bag_id, label, prediction, probability, _ = row
    sure = "" if probability is None else f" ({probability:.2f})"
    return f"{bag_id}: {label}, predicted {prediction}{sure}"


def _picture(record: BagRecord) -> Picture | None:
    """The attention of a bag; None where there is none, or it cannot be drawn."""
    if record.weights is None or record.sampled:
        return None
    # Slides of a patient would lie upon each other on one map.
    one_slide = record.slide is None or not record.slide.any()
    coords = record.coords if one_slide else None
    picture = None
    with never_fatal(f"no picture of bag {record.bag_id}"):
        picture = thumbnail(record.weights, coords=coords, images=record.images)
    return picture


def _log_artifacts(logger: WandbLogger, trainer: L.Trainer) -> None:
    """The best checkpoint, and what is known of the data, whose fingerprint names its version."""
    import wandb

    run = logger.experiment
    data = getattr(trainer, "datamodule", None)
    description = {} if data is None else data.description()
    if description:
        metadata = {"fingerprint": description["fingerprint"]}
        artifact = wandb.Artifact("data", type="dataset", metadata=metadata)
        with artifact.new_file("data.json", encoding="utf-8") as file:
            json.dump(description, file, indent=2)
        run.log_artifact(artifact)
    callback = trainer.checkpoint_callback
    if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
        metadata = {"fingerprint": description.get("fingerprint"), "monitor": callback.monitor}
        artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=metadata)
        artifact.add_file(callback.best_model_path, name="best.ckpt")
        run.log_artifact(artifact, aliases=["best"])
