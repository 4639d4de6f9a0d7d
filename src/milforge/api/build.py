"""From a config to the objects of a run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from inspect import signature
from typing import Any

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from milforge.config.checkpoints.checkpoint_config import unfitting
from milforge.config.hydra_versions import instantiate
from milforge.config.keys.odd_values import odd_values
from milforge.data import (
    BagBatch,
    BagSplits,
    BagTable,
    ImageBatch,
    Loader,
    Splitter,
    bags_alone,
)
from milforge.data.dataset import image_source
from milforge.sampling import ImageSource
from milforge.tasks import Auto, Task
from milforge.training import MILDataModule
from milforge.training.data.standardising import InstanceShape


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


def unfit(key: str) -> AbstractContextManager[None]:
    """Names the group of which nothing can be made, where what is made of it comes later."""
    return odd_values(f"{key}: expected values that it can be built with, got others")


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
        ValueError: where it takes images and the data are bags, or the other way round, it needs
            a graph and the bags have none, or it cannot look at an image.
    """
    check_batch_type(config, data.batch_type)
    taken = data.num_covariates if num_covariates is None else num_covariates
    network = build_network(config, data.instance_shape, data.task.num_outputs, taken)
    check_graph(network, data.has_graphs)
    check: Callable[[list[ImageSource]], None] | None = getattr(network, "check_sources", None)
    if check is not None:
        parts = data.parts.values()
        sources = [image_source(part, i) for part in parts for i in range(len(part))]
        check([source for source in sources if source is not None])
    return network


def check_batch_type(config: DictConfig, batch_type: type) -> None:
    """Checks that the network of a config looks at such batches.

    Args:
        config: of the run.
        batch_type: `BagBatch` or `ImageBatch`.

    Raises:
        ValueError: where it takes images and these are bags, or the other way round.
    """
    builder = class_of(make(config.model))
    takes_images = getattr(builder, "batch_type", BagBatch) is ImageBatch
    if takes_images and batch_type is BagBatch:
        raise ValueError(
            "the model looks at large images, and the data are bags of instances: choose "
            "data=megapixel_digits or other images, or a model of bags, such as model=gated_abmil"
        )
    if not takes_images and batch_type is ImageBatch:
        raise ValueError(
            "the model takes bags of instances, and the data are large images: choose "
            "model=attention_sampling, or data of bags, such as data=digits_bags"
        )


def check_graph(network: nn.Module, has_graphs: bool) -> None:
    """Checks that there are graphs for a network that needs them.

    Raises:
        ValueError: where there are none.
    """
    if getattr(network, "needs_adjacency", False) and not has_graphs:
        raise ValueError(
            "the model smooths over a graph of the instances, and the bags have none: choose "
            "graph=grid, radius or knn; where there are no coords, graph=feature_knn or chain"
        )


def build_network(
    config: DictConfig, instance_shape: InstanceShape, num_outputs: int, num_covariates: int
) -> nn.Module:
    """The network of a config for instances of a shape."""
    build = make(config.model)
    given: dict[str, Any] = {"instance_shape": instance_shape, "num_outputs": num_outputs}
    if "num_covariates" in signature(class_of(build)).parameters:
        given["num_covariates"] = num_covariates
    with unfit("model"):
        network: nn.Module = build(**given)
    return network


def check_optimizer(config: DictConfig, network: nn.Module) -> None:
    """Builds the optimiser and the scheduler, which Lightning does when the bags have been read.

    Raises:
        ValueError: where they cannot be built of these values.
    """
    trained = [each for each in network.parameters() if each.requires_grad]
    with unfit("optimizer"):
        optimizer = make(config.optimizer)(trained)
    if config.scheduler:
        with unfit("scheduler"):
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


def class_of(build: Any) -> Any:
    """What a partial, or a class itself, builds."""
    return build.func if isinstance(build, partial) else build
