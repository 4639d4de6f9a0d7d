"""A trained model in Python: load it, look at it, predict with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from milforge.api.build import (
    build_network,
    make,
    make_loader,
    make_task,
    within_its_weights,
)
from milforge.api.learning import module_builder
from milforge.callbacks.predictions import bags_table
from milforge.callbacks.records import BagRecord, records_of
from milforge.config.checkpoints.checkpoint_config import (
    check_group,
    empty_standardiser,
    load_checkpoint,
    load_weights,
)
from milforge.config.checkpoints.checkpoint_content import name_odd_values
from milforge.config.checkpoints.trust import check_objects, within_the_run
from milforge.config.checkpoints.trusted_packages import checked_packages
from milforge.config.keys.key_check import check_targets
from milforge.data import (
    Bag,
    BagDataset,
    ImageDataset,
    LargeImage,
    collate_bags,
    collate_images,
)
from milforge.data.covariates import num_covariates
from milforge.data.wrappers.graph_bags import lay_graph
from milforge.tasks import Task
from milforge.training import MILModule

# What a model is built from.
PARTS = ("model", "task", "module", "graph", "loader")

Items = Sequence[Bag] | Sequence[LargeImage] | BagDataset | ImageDataset


class Model:
    """A trained network with all that it needs to predict.

    Args:
        module: the LightningModule with the trained weights.
        config: the config that it was trained with.
    """

    def __init__(self, module: MILModule, config: DictConfig) -> None:
        self.module = module.eval()
        self.config = config

    @property
    def network(self) -> nn.Module:
        """Maps a batch of standardised bags to a `milforge.models.BagOutput`."""
        return self.module.network

    @property
    def task(self) -> Task:
        """What the labels mean."""
        return self.module.task

    @property
    def standardise(self) -> nn.Module | None:
        """What is done to the features first; None: nothing."""
        return self.module.standardise

    def predict(self, bags: Items) -> pa.Table:
        """What is predicted of each bag, and its label where it has one.

        Args:
            bags: bags, or large images, as the model was trained on. A graph is laid over bags
                without one, as in training.

        Returns:
            A table with a row per bag: the columns of `bags.parquet` (`.to_pandas()` gives a data
            frame).

        Raises:
            ValueError: for bags of another kind; names them.
        """
        return bags_table(list(self._records(bags)), self.task)

    @torch.inference_mode()
    def _records(self, bags: Items) -> Iterator[BagRecord]:
        loader = make_loader(self.config)
        size = loader.eval_batch_size or loader.batch_size
        graph = make(self.config.graph) if self.config.graph else None
        for start in range(0, len(bags), size):
            items: list[Any] = [bags[i] for i in range(start, min(start + size, len(bags)))]
            if isinstance(items[0], LargeImage):
                batch: Any = collate_images(items)
            else:
                if graph is not None:
                    items = [
                        bag if bag.adj is not None else replace(bag, adj=lay_graph(bag, graph))
                        for bag in items
                    ]
                batch = collate_bags(items)
            batch = batch.to(self.module.device)
            yield from records_of(self.module.predict_step(batch, 0), batch, "test")


def load(run_or_checkpoint: str | Path, *, trust: str | Sequence[str] = ()) -> Model:
    """A trained model, by the folder of its run or by its checkpoint.

    Args:
        run_or_checkpoint: the folder, or the file.
        trust: packages beside this one that its config may name, such as `my_package`.

    Raises:
        ValueError: where there is no checkpoint, or it cannot be read; it is data, and what its
            config names is checked before it is imported.
    """
    path = _checkpoint(Path(run_or_checkpoint))
    checkpoint = load_checkpoint(str(path), key="load")
    stored = checkpoint["milforge"]
    check_group(stored["config"], "model", f"load: {path}")
    kept = within_the_run({name: stored["config"].get(name) for name in PARTS})
    check_objects(kept, f"load: {path}", checked_packages(trust))
    check_targets(OmegaConf.create(kept))
    config = OmegaConf.create({**stored["config"], **kept})
    with name_odd_values(f"load: {path}"):
        return Model(_module(config, checkpoint, str(path)), config)


def _module(config: DictConfig, checkpoint: Mapping[str, Any], path: str) -> MILModule:
    stored = checkpoint["milforge"]
    task = make_task(config).from_state(stored["task"])
    shape = stored["instance_shape"]
    shape = (
        {name: tuple(each) for name, each in shape.items()}
        if isinstance(shape, dict)
        else tuple(shape)
    )
    build = partial(build_network, config, shape, task.num_outputs, num_covariates(stored))
    network = within_its_weights(build, checkpoint["state_dict"], path)
    standardise = empty_standardiser(shape) if stored["standardised"] else None
    module = module_builder(config)(network, task, stored=stored, standardise=standardise)
    load_weights(module, checkpoint, path, shape, task.class_names)
    return module


def _checkpoint(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        for folder in (path / "checkpoints", path):
            if (folder / name).is_file():
                return folder / name
    raise ValueError(f"load: {path} has no checkpoint; give the folder of a run, or a .ckpt file")
