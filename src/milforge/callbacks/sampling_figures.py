"""Figures of attention sampling: what was looked at, and how attention came to be there."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor, nn

from milforge.callbacks.write_figure import write_figure
from milforge.data import ImageBatch
from milforge.models import SamplingNetwork
from milforge.plots import SampledImage, plot_attention_over_epochs, plot_sampled_patches
from milforge.tasks import Task

logger = logging.getLogger(__name__)

# Epochs whose maps are held, an even number: twice what is drawn, so that they can be thinned.
_MOST_EPOCHS = 16


class _Epoch(NamedTuple):
    """The attention maps of the images in an epoch."""

    number: int
    maps: list[Tensor]


class SamplingFigures(Callback):
    """Draws the patches drawn of the first test images, and the attention of the first of val.

    Files are `sampled_patches.png` after a test, and `attention_epochs.png` after training: the
    attention over the same images at several epochs. W&B and TensorBoard receive the same figures.
    Nothing is drawn of bags.

    Args:
        folder: where to write.
        images: how many images to draw; 0 draws none.
    """

    uses_coords = False  # of a batch; see milforge.training.data.used_coords

    def __init__(self, folder: str | Path, images: int = 3) -> None:
        self.folder = Path(folder)
        self.images = images
        self._sampled: list[Callable[[], SampledImage]] = []
        self._views: list[Tensor] = []
        self._names: list[str] = []
        self._allowed: list[Tensor] = []  # the cells that may be looked at; of none where all may
        self._current: list[Tensor] = []
        self._held: list[_Epoch] = []
        self._last: _Epoch | None = None
        self._every = 1  # of the validations so far, the first is held, and each so many after it
        self._seen = 0

    def state_dict(self) -> dict[str, Any]:
        """The maps of the epochs so far, for a run that goes on."""
        return {
            "epochs": [tuple(epoch) for epoch in self._held],
            "last": None if self._last is None else tuple(self._last),
            "views": list(self._views),
            "names": list(self._names),
            "allowed": list(self._allowed),
            "every": self._every,
            "seen": self._seen,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._held = [_Epoch(*each) for each in state_dict["epochs"]]
        self._last = None if state_dict["last"] is None else _Epoch(*state_dict["last"])
        self._views, self._names = state_dict["views"], state_dict["names"]
        self._allowed = state_dict["allowed"]
        self._every, self._seen = state_dict["every"], state_dict["seen"]

    def on_validation_batch_end(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if _was_sampled(outputs, batch) and not trainer.sanity_checking:
            wanted = self.images - len(self._current)
            self._current += list(outputs["details"]["attention"][:wanted].clone())
            if self._last is None:
                self._views += list(batch.x_low[:wanted].cpu().clone())
                self._names += batch.bag_id[:wanted]
                if "allowed" in outputs["details"]:
                    self._allowed += list(outputs["details"]["allowed"][:wanted].clone())

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Holds the maps of the last epoch and of some before it, evenly apart."""
        if not self._current:
            return
        self._last, self._current = _Epoch(trainer.current_epoch, self._current), []
        if self._seen % self._every == 0:
            if len(self._held) == _MOST_EPOCHS:
                self._held, self._every = self._held[::2], 2 * self._every
            self._held.append(self._last)
        self._seen += 1

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the attention over the epochs, and warns where it has never left uniform."""
        if self._last is None or not trainer.is_global_zero:
            return
        masks: Sequence[Tensor | None] = self._allowed or [None] * len(self._names)
        if all(
            _is_uniform(attention, mask)
            for epoch in (*self._held, self._last)
            for attention, mask in zip(epoch.maps, masks, strict=True)
        ):
            logger.warning(
                "attention never left uniform in %s: the patches were drawn at random; train for "
                "longer, with a larger optimizer.lr or a smaller model.entropy",
                "1 epoch" if self._seen == 1 else f"{self._seen} epochs",
            )
        last_is_held = (self._seen - 1) % self._every == 0
        shown = self._held if last_is_held else [*self._held, self._last]
        draw = partial(
            plot_attention_over_epochs,
            self._views,
            [epoch.maps for epoch in shown],
            [epoch.number for epoch in shown],
            self._names,
            receptive_field=_receptive_field(pl_module),
            allowed=self._allowed or None,
        )
        write_figure(trainer, self.folder, "attention_epochs", draw)

    def on_test_batch_end(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        wanted = self.images - len(self._sampled)
        if _was_sampled(outputs, batch) and wanted > 0 and batch.y is not None:
            task = cast(Task, pl_module.task)
            for i in range(min(wanted, len(batch))):
                image = sampled_image(batch, outputs, i, task, _receptive_field(pl_module))
                self._sampled.append(image)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the patches."""
        sampled, self._sampled = self._sampled, []
        if sampled and trainer.is_global_zero:

            def draw() -> Figure:
                return plot_sampled_patches([image() for image in sampled])

            write_figure(trainer, self.folder, "sampled_patches", draw)


def _is_uniform(attention: Tensor, allowed: Tensor | None) -> bool:
    """Whether no cell that may be looked at has a tenth more or less than if all had the same."""
    within = attention.double() if allowed is None else attention[allowed].double()
    return bool((within / within.mean() - 1).abs().max() < 0.1)


def _was_sampled(outputs: Mapping[str, Any], batch: Any) -> bool:
    """Whether these are images of which a network has looked at patches, and says where."""
    return isinstance(batch, ImageBatch) and "attention" in outputs["details"]


def sampled_image(
    batch: ImageBatch,
    outputs: Mapping[str, Any],
    i: int,
    task: Task,
    receptive_field: int = 0,
) -> Callable[[], SampledImage]:
    """Makes image i of a batch in the words of the figure; it cannot where a model diverged."""
    assert batch.y is not None
    columns = {name: each[i] for name, each in outputs["columns"].items()}
    description, details = task.describe(columns, batch.y[i].cpu()), outputs["details"]
    height, width = batch.x_high[i].shape[1:]
    return partial(
        SampledImage,
        bag_id=batch.bag_id[i],
        # Copies, or the whole batch would be held.
        low=batch.x_low[i].cpu().clone(),
        attention=details["attention"][i].clone(),
        patches=details["patches"][i].clone(),
        offsets=details["offsets"][i],
        high_size=(height, width),
        probabilities=details["weights"][i],
        y=description.truth,
        prediction=description.prediction,
        probability=description.probability,
        receptive_field=receptive_field,
        window=(int(details["windows"][i, 0]), int(details["windows"][i, 1])),
        allowed=details["allowed"][i].clone() if "allowed" in details else None,
    )


def _receptive_field(module: L.LightningModule) -> int:
    network: Any = module.network
    if isinstance(network, nn.ModuleList):  # of an ensemble, whose first member is drawn
        network = network[0].network
    return cast(SamplingNetwork, network).sampling.receptive_field
