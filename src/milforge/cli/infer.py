"""Evaluation and prediction from a checkpoint, or from several that are averaged."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from milforge.callbacks.end_when_told import EndWhenTold
from milforge.cli.build import (
    as_floats,
    check_processes,
    make_data,
    make_network,
    make_trainer,
    module_class,
    quiet_run,
    resolved,
    seed_run,
    wandb_folder,
    write_config,
)
from milforge.cli.check import check_targets
from milforge.cli.closing import print_run
from milforge.cli.lost_process import lost_process_told
from milforge.cli.members import check_alike, different_parts
from milforge.cli.parent import leave_with_parent
from milforge.cli.stored import empty_standardiser, load_checkpoint, load_weights
from milforge.cli.summary import write_summary
from milforge.data import ImageBatch
from milforge.training import (
    BagClassification,
    BagEnsemble,
    ClassificationDataModule,
    ImageClassification,
    ImageEnsemble,
)

logger = logging.getLogger(__name__)

Checkpoints = dict[str, dict[str, Any]]


def infer(config: DictConfig, *, evaluate: bool) -> dict[str, float]:
    """Tests or predicts the test bags with the weights of `ckpt_path`, and writes the run's folder.

    Several checkpoints are averaged; see `milforge.training.BagEnsemble`.

    Returns:
        The test metrics; none where bags are only predicted.

    Raises:
        ValueError: where a checkpoint fits neither the data nor the model of the config, or
            several do not fit each other.
    """
    start = monotonic()
    seed_run(config)
    one = isinstance(config.ckpt_path, str)
    paths = [config.ckpt_path] if one else list(config.ckpt_path)
    checkpoints = {path: load_checkpoint(path) for path in paths}
    if not one:
        check_ensemble(config, checkpoints)
    stored = checkpoints[paths[0]]["milforge"]
    leave_with_parent()
    with EndWhenTold(), quiet_run(config), lost_process_told():
        data = make_data(config, "test")
        data.adopt(stored["task"], stored["class_names"])
        for path, checkpoint in checkpoints.items():
            warn_of_seen_bags(path, checkpoint["milforge"]["split"], data)
        if one:
            module = make_member(paths[0], checkpoints[paths[0]], config, data)
        else:
            module = make_ensemble(checkpoints, data)
        trainer = make_trainer(config)
        check_processes(trainer, data, ["test"])
        if trainer.is_global_zero:
            write_config(config, list(HydraConfig.get().overrides.task))
        if evaluate:
            trainer.test(module, data, verbose=False)
        else:
            trainer.predict(module, data, return_predictions=False)
        metrics = as_floats(trainer.callback_metrics)
        if trainer.is_global_zero:
            folder = Path(config.paths.output_dir)
            write_summary(
                folder,
                metrics=metrics,
                seed=config.seed,
                checkpoint=paths[0] if one else paths,
                wall_seconds=round(monotonic() - start, 2),
                data=data.description(),
            )
            print_run(metrics, folder, None, wandb_folder(trainer))
            if not one:
                print(f"members      {len(paths)} checkpoints, averaged")
    return metrics


@rank_zero_only
def warn_of_seen_bags(
    path: str, split: Mapping[str, Any] | None, data: ClassificationDataModule[Any]
) -> None:
    """Warns where bags are tested that the checkpoint was fitted on or selected by.

    Splits that are drawn change with the table of labels: what was tested may now be trained on.

    Args:
        path: of the checkpoint.
        split: the bags of each part of its run, None where they were not split by name.
        data: the bags at hand.
    """
    if split is None or data.split is None:
        return
    seen = {*split["train"], *split["val"]}.intersection(data.split.test)
    if seen:
        logger.warning(
            "%d of %d test bags, %s among them, were in the train or val part of %s, so these "
            "metrics are too good; data.splits=FOLDER_OF_THAT_RUN/splits.csv data.fold=null is "
            "its own split",
            len(seen),
            len(data.split.test),
            min(seen),
            path,
        )


def check_ensemble(config: DictConfig, checkpoints: Checkpoints) -> None:
    """Checks that checkpoints can be averaged, and warns where a member may have seen the bags.

    Raises:
        ValueError: where one is of another kind than the first, or the model is given anew.
    """
    stored = {path: checkpoint["milforge"] for path, checkpoint in checkpoints.items()}
    check_alike(stored)
    first, *_ = configs = [content["config"] for content in stored.values()]
    plain = resolved(config)
    overrides = [each.lstrip("+") for each in HydraConfig.get().overrides.task]
    given = [each for each in overrides if re.match(r"~?model\b", each)]
    if given or plain["model"] != first["model"]:
        raise ValueError(
            f"each of {len(stored)} checkpoints is built from the model that it was trained with, "
            f"got {', '.join(given) or 'other values in a config file'}; leave the model as it "
            "is, or give one checkpoint"
        )
    different = different_parts([each["data"] for each in configs], plain["data"])
    if different:
        logger.warning(
            "the checkpoints were trained with different %s: unless their test parts are the same, "
            "some have been trained on bags that are tested here",
            " and ".join(f"data.{key}" for key in different),
        )


def make_ensemble(
    checkpoints: Checkpoints, data: ClassificationDataModule[Any]
) -> BagClassification | ImageClassification:
    """The checkpoints as one module, each built from the model that it was trained with."""
    members: list[Any] = []
    for path, checkpoint in checkpoints.items():
        config = OmegaConf.create({"model": checkpoint["milforge"]["config"]["model"]})
        check_targets(config)
        members.append(make_member(path, checkpoint, config, data))
    return ImageEnsemble(members) if data.batch_type is ImageBatch else BagEnsemble(members)


def make_member(
    path: str,
    checkpoint: Mapping[str, Any],
    config: DictConfig,
    data: ClassificationDataModule[Any],
) -> BagClassification | ImageClassification:
    """The model of the config with the weights of a checkpoint.

    Raises:
        ValueError: where the checkpoint fits neither the data nor the model.
    """
    stored = checkpoint["milforge"]
    weights = stored["class_weights"]
    module = module_class(data)(
        make_network(config, data),
        data.task,
        data.class_names,
        class_weights=None if weights is None else torch.tensor(weights),
        stored=stored,
        standardise=empty_standardiser(data.instance_shape) if stored["standardised"] else None,
    )
    load_weights(module, checkpoint, path, data.instance_shape, data.class_names)
    return module
