"""From a config to the objects of a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from inspect import signature
from math import inf
from typing import Any, cast

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torchmetrics import Metric

from milforge.config.checkpoint_config import unfitting
from milforge.config.checkpoint_content import ODD
from milforge.config.hydra_versions import instantiate
from milforge.config.key_check import check_complete
from milforge.config.messages import WHERE
from milforge.data import (
    BagBatch,
    BagSplits,
    BagTable,
    ImageBatch,
    Loader,
    Splitter,
    bags_alone,
)
from milforge.metrics import build_metrics, missing_options
from milforge.tasks import Auto, Task
from milforge.training import MILDataModule, MILModule
from milforge.training.losses import Loss, check_loss
from milforge.training.standardising import InstanceShape

# What is logged of every stage, whatever the task.
MEASURED = ("loss", "inst_auroc", "inst_ap")


def seed_run(config: DictConfig) -> None:
    """Seeds all that draws at random.

    Raises:
        ValueError: for a seed that NumPy does not take.
    """
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"expected seed from 0 to {2**32 - 1}, got {config.seed}")
    L.seed_everything(config.seed, workers=True, verbose=False)


def make(config: DictConfig, **kwargs: Any) -> Any:
    """The one place where a config becomes an object.

    Errors of the object itself are raised as they are: those meant for the user name their key.
    """
    try:
        return instantiate(config, _convert_="all", **kwargs)
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | OSError):
            raise error.__cause__ from None
        raise


@contextmanager
def named_values(key: str) -> Iterator[None]:
    """Names the group of which nothing can be made, where what is made of it comes later.

    Raises:
        ValueError: for errors that no user was meant to see; others are left as they are.
    """
    try:
        yield
    except ODD as error:
        cause, *_ = str(error).splitlines() or [""]
        raise ValueError(
            f"{key}: expected values that it can be built with, got others "
            f"({type(error).__name__}: {cause:.300}); {WHERE}"
        ) from error


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain data, without interpolations."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def make_task(config: DictConfig) -> Task:
    """The task of a config, before it has seen labels.

    Raises:
        ValueError: where the target is no task.
    """
    task = make(config.task) if config.task else Auto()
    if not isinstance(task, Task):
        raise ValueError(
            f"task._target_: expected a subclass of milforge.tasks.Task, got {config.task._target_}"
        )
    return task


def make_data(
    config: DictConfig,
    *,
    task: Task | None = None,
    covariates: Sequence[Mapping[str, Any]] | None = None,
    feature_names: Sequence[str] = (),
    split: Splitter | None = None,
) -> MILDataModule:
    """The DataModule, which is not set up yet: no bag has been read.

    Args:
        config: of the run.
        task: what a checkpoint knows of the labels; None: that of the config.
        covariates: what a checkpoint knows of the covariates.
        feature_names: of the features that a checkpoint was trained on, in order; a data set that
            has an option `feature_columns` gives them so.
        split: how a table of bags is split, whatever split the config has.

    Raises:
        ValueError: where the config names other features than the checkpoint.
    """
    configured = make(config.split) if config.split and split is None else None
    bags = partial(make, config.data, **_columns(config, feature_names))
    if config.get("bags_alone") is not None:
        bags = partial(_alone, bags, config.bags_alone, config.seed)
    return MILDataModule(
        bags,
        task=make_task(config) if task is None else task,
        split=configured if split is None else split,
        optional_split=split is not None,
        graph=make(config.graph) if config.graph else None,
        loader=make_loader(config),
        seed=config.seed,
        covariates=covariates,
    )


def _alone(bags: Callable[[], Any], show: Any, seed: int) -> BagSplits[Any] | BagTable[Any]:
    """A data set function's bags without what they hold."""
    return bags_alone(bags(), show, seed)


def _columns(config: DictConfig, names: Sequence[str]) -> dict[str, list[str]]:
    """The option of a data set that chooses the features of a checkpoint by their names."""
    if not names or "feature_columns" not in signature(get_object(config.data._target_)).parameters:
        return {}
    given = config.data.get("feature_columns")
    if given is not None and list(given) != list(names):
        raise ValueError(
            "data.feature_columns: expected the columns that the checkpoint was trained on, "
            f"{', '.join(names)}, got {', '.join(given)}: leave it out"
        )
    return {"feature_columns": list(names)}


def make_network(
    config: DictConfig, data: MILDataModule, num_covariates: int | None = None
) -> nn.Module:
    """The network for the instances and the task of the data.

    Args:
        config: of the run.
        data: the data.
        num_covariates: how many covariates of a bag it takes; None: all.

    Raises:
        ValueError: where it takes images and the data are bags, or the other way round, or it
            needs a graph and the bags have none.
    """
    builder = _class_of(make(config.model))
    takes_images = getattr(builder, "batch_type", BagBatch) is ImageBatch
    if takes_images and data.batch_type is BagBatch:
        raise ValueError(
            "the model looks at large images, and the data are bags of instances: choose "
            "data=megapixel_digits or other images, or a model of bags, such as model=gated_abmil"
        )
    if not takes_images and data.batch_type is ImageBatch:
        raise ValueError(
            "the model takes bags of instances, and the data are large images: choose "
            "model=attention_sampling, or data of bags, such as data=digits_bags"
        )
    taken = data.num_covariates if num_covariates is None else num_covariates
    network = build_network(config, data.instance_shape, data.task.num_outputs, taken)
    if getattr(network, "needs_adjacency", False) and not data.has_graphs:
        raise ValueError(
            "the model smooths over a graph of the instances, and the bags have none: choose "
            "graph=grid, radius or knn; where there are no coords, graph=feature_knn or chain"
        )
    return network


def build_network(
    config: DictConfig, instance_shape: InstanceShape, num_outputs: int, num_covariates: int
) -> nn.Module:
    """The network of a config for instances of a shape."""
    build = make(config.model)
    given: dict[str, Any] = {"instance_shape": instance_shape, "num_outputs": num_outputs}
    if "num_covariates" in signature(_class_of(build)).parameters:
        given["num_covariates"] = num_covariates
    with named_values("model"):
        network: nn.Module = build(**given)
    return network


def check_optimizer(config: DictConfig, network: nn.Module) -> None:
    """Builds the optimiser and the scheduler, which Lightning does when the bags have been read.

    Raises:
        ValueError: where they cannot be built of these values.
    """
    trained = [each for each in network.parameters() if each.requires_grad]
    with named_values("optimizer"):
        optimizer = make(config.optimizer)(trained)
    if config.scheduler:
        with named_values("scheduler"):
            make(config.scheduler)(optimizer)


def within_its_weights(
    build: Callable[[], nn.Module], weights: Mapping[str, Tensor], path: str
) -> nn.Module:
    """A network that is to get the weights of a checkpoint, and is no larger than they are.

    It is built without memory first, because the config of a checkpoint may say anything.

    Args:
        build: builds the network.
        weights: of the checkpoint.
        path: of the checkpoint, for messages.

    Raises:
        ValueError: where its weights have other shapes.
    """
    shapes: dict[str, torch.Size] | None = None
    with suppress(Exception), torch.random.fork_rng(devices=[]), torch.device("meta"):
        shapes = {name: each.shape for name, each in build().state_dict().items()}
    stored = {
        name.removeprefix("network."): each.shape
        for name, each in weights.items()
        if name.startswith("network.")
    }
    if shapes is not None and shapes != stored:  # else it needs memory, or fails below alike
        raise unfitting(path)
    return build()


def make_loader(config: DictConfig) -> Loader:
    """The sizes of batches, and how bags are read."""
    return make(config.loader) if config.loader else Loader()


@dataclass(frozen=True)
class Learning:
    """What a config says of how a task is learnt, checked against the labels.

    Args:
        build: builds the LightningModule.
        loss: the loss of each bag; None: the task's own.
        instances: weight of the loss of the attention.
        metrics: metrics beside the task's own, by name; None takes the task's of that name away.
    """

    build: Callable[..., MILModule]
    loss: Loss | None
    instances: float
    metrics: dict[str, Metric | None]


def make_learning(config: DictConfig, task: Task, labels: Tensor | None) -> Learning:
    """What a config says of how a task is learnt. What is wrong is an error before a bag is read.

    Args:
        config: of the run.
        task: has seen the labels.
        labels: some labels that the loss is tried on; None where there are none.

    Raises:
        ValueError: where the module, the loss or a metric is none, or does not fit the task; the
            message names the key.
    """
    build = module_builder(config)
    metrics = make_metrics(config, task)
    build_metrics(task.metrics(), metrics, task.input_names)
    loss = make_loss(config, task, labels)
    return Learning(build, loss, instance_weight(config), metrics)


def instance_weight(config: DictConfig) -> float:
    """`loss.instances`, the weight of the loss of the attention.

    Raises:
        ValueError: where it is no number from 0 on.
    """
    weight = (config.loss or {}).get("instances", 0.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < inf:
        raise ValueError(f"loss.instances: expected a number from 0 on, got {weight!r}")
    return float(weight)


def make_metrics(config: DictConfig, task: Task) -> dict[str, Metric | None]:
    """The metrics of a config; what they need to know of the task, such as its classes, is given.

    Raises:
        ValueError: where one is no metric, or needs a value that neither config nor task gives.
    """
    metrics: dict[str, Metric | None] = {}
    for name, node in (config.metrics or {}).items():
        if name in MEASURED:
            raise ValueError(
                f"metrics.{name}: every run measures {name} itself; give the metric another name"
            )
        if node is None:
            metrics[str(name)] = None
            continue
        if not isinstance(node, DictConfig) or "_target_" not in node:
            raise ValueError(f"metrics.{name}: expected a _target_, the class of a metric, or null")
        target = get_object(node._target_)
        given = missing_options(target, node, task.metric_options())
        check_complete(f"metrics.{name}", {**node, **given})
        metric = make(node, **given)
        if not isinstance(metric, Metric):
            raise ValueError(
                f"metrics.{name}._target_: expected a torchmetrics.Metric, got {node._target_}"
            )
        metrics[str(name)] = metric
    return metrics


def make_loss(config: DictConfig, task: Task, labels: Tensor | None) -> Loss | None:
    """The loss of a config, tried on some labels; None where it is the task's own.

    Raises:
        ValueError: where it cannot be called, does not return a loss for each bag, or cannot take
            such labels.
    """
    node = {key: each for key, each in (config.loss or {}).items() if key != "instances"}
    if not node:
        return None
    loss: Loss = make(OmegaConf.create(node))
    if not callable(loss):
        raise ValueError(
            "loss._target_: expected a function of logits and labels, or a module, got "
            f"{config.loss._target_}"
        )
    if labels is not None and len(labels):
        weighted = getattr(task, "class_weights", None) is not None
        if weighted and task.weight(task.target(labels[:1])) is None:
            raise ValueError(
                "task.class_weights: this task weighs each label inside its own loss, which "
                f"{config.loss._target_} replaces; choose loss=task, or task.class_weights=null"
            )
        check_loss(loss, task, labels)
    return loss


def module_builder(config: DictConfig) -> Callable[..., MILModule]:
    """Builds the LightningModule of a config.

    Raises:
        ValueError: where the target is none of ours.
    """
    build = make(config.module) if config.module else MILModule
    kind = _class_of(build)
    if not (isinstance(kind, type) and issubclass(kind, MILModule)):
        raise ValueError(
            "module: expected _target_ to name a subclass of milforge.training.MILModule and "
            f"_partial_: true, got {config.module._target_}"
        )
    return cast(Callable[..., MILModule], build)


def _class_of(build: Any) -> Any:
    """What a partial, or a class itself, builds."""
    return build.func if isinstance(build, partial) else build
