"""The models of checkpoints: one, or several that are averaged."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from milforge.api.build import make_network, make_task, resolved, within_its_weights
from milforge.api.learning import Learning, module_builder
from milforge.config.checkpoints.checkpoint_config import (
    check_fit,
    empty_standardiser,
    load_weights,
    stored_part,
)
from milforge.config.checkpoints.checkpoint_content import name_odd_values
from milforge.config.checkpoints.checkpoint_paths import check_alike, different_parts
from milforge.config.keys.key_check import check_targets
from milforge.data.covariates import num_covariates
from milforge.tasks import Task
from milforge.training import Ensemble, MILDataModule, MILModule

logger = logging.getLogger(__name__)

# What each member of an ensemble is built from as it was trained.
MEMBER_GROUPS = ("model", "task", "module")

Checkpoints = dict[str, dict[str, Any]]


def stored_task(config: DictConfig, stored: Mapping[str, Any]) -> Task:
    """The task of a config with what a checkpoint knows of the labels."""
    return make_task(config).from_state(stored["task"])


def check_ensemble(config: DictConfig, checkpoints: Checkpoints, overrides: Sequence[str]) -> None:
    """Checks that checkpoints can be averaged, and warns where a member may have seen the bags.

    Raises:
        ValueError: where one is of another kind than the first, or the model is given anew.
    """
    stored = {path: checkpoint["milforge"] for path, checkpoint in checkpoints.items()}
    check_alike(stored)
    first, *_ = configs = [stored_part(content["config"], ()) for content in stored.values()]
    plain = resolved(config)
    plainly = [each.lstrip("+") for each in overrides]
    given = [each for each in plainly if re.match(r"~?model\b", each)]
    if given or plain["model"] != first["model"]:
        raise ValueError(
            f"each of {len(stored)} checkpoints is built from the model that it was trained with, "
            f"got {', '.join(given) or 'other values in a config file'}; leave the model as it "
            "is, or give one checkpoint"
        )
    different = different_parts(configs, plain)
    if different and not config.out_of_fold:
        logger.warning(
            "the checkpoints were trained with different %s: unless their test parts are the same, "
            "some have been trained on bags that are tested here; out_of_fold=true has each bag "
            "predicted by those that did not see it",
            " and ".join(different),
        )


def make_ensemble(
    checkpoints: Checkpoints,
    config: DictConfig,
    data: MILDataModule,
    learning: Learning,
    of_bag: Mapping[str, Sequence[int]] | None = None,
) -> MILModule:
    """The checkpoints as one module, each built as it was trained.

    Network, task and LightningModule are its own; loss and metrics are those of the config.
    """
    members: list[MILModule] = []
    for path, checkpoint in checkpoints.items():
        stored = checkpoint["milforge"]
        member = config.copy()
        own_part = stored_part(stored["config"], ())
        for group in MEMBER_GROUPS:
            member[group] = own_part.get(group)
        check_targets(OmegaConf.create({group: member[group] for group in MEMBER_GROUPS}))
        own = replace(learning, build=module_builder(member))
        members.append(make_member(path, checkpoint, member, data, own))
    return Ensemble(members, of_bag)


def make_member(
    path: str,
    checkpoint: Mapping[str, Any],
    config: DictConfig,
    data: MILDataModule,
    learning: Learning,
) -> MILModule:
    """The model of the config with the weights of a checkpoint.

    Raises:
        ValueError: where the checkpoint fits neither the data nor the model.
    """
    stored = checkpoint["milforge"]
    check_fit(stored, data.instance_shape, data.task.class_names)
    build = partial(make_network, config, data, num_covariates(stored))
    with name_odd_values(f"ckpt_path: {path}"):
        module = learning.build(
            within_its_weights(build, checkpoint["state_dict"], path),
            stored_task(config, stored),
            loss=learning.loss,
            metrics=learning.metrics,
            stored=stored,
            standardise=empty_standardiser(data.instance_shape) if stored["standardised"] else None,
        )
    load_weights(module, checkpoint, path, data.instance_shape, data.task.class_names)
    return module
