"""The top-level keys of the commands; any other is refused."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from milforge.config.hydra_versions import store_config

# Groups that say what a network is and what it sees. A checkpoint gives them to other commands, and
# two runs that differ in one of them are two runs.
NETWORK_AND_DATA = (
    "data",
    "split",
    "graph",
    "loader",
    "task",
    "loss",
    "metrics",
    "model",
    "module",
)


@dataclass
class PathsConfig:
    """Where runs are written.

    Args:
        log_dir: the folder below which runs are written.
        output_dir: the folder of this run.
    """

    log_dir: str = MISSING
    output_dir: str | None = MISSING


@dataclass
class RunConfig:
    """Keys of every command.

    Args:
        task_name: names the folder of the runs and the job type in W&B.
        seed: of weights, bags and their order.
        run: name of the run's folder; None: date and time.
        sweep: name of a sweep; its folder, and the group of its runs in W&B.
        tags: words that the run carries in W&B.
        ckpt_path: a checkpoint: to go on from (train), or to use. To evaluate and predict it may
            also be a list, a folder or a pattern of checkpoints, which are averaged.
        bags_alone: what a bag shows instead of its instances; see `milforge.data.bags_alone`.
        data: group; a function that returns the bags.
        split: group; how bags are split, where the data set does not make its parts itself.
        graph: group; builds the adjacency of each bag.
        loader: group; the sizes of batches, and how bags are read.
        task: group; what the labels mean.
        loss: group; the loss of each bag, which replaces the task's own.
        metrics: group; metrics by name, beside the task's own.
        model: group; builds the network from the shape of an instance and the number of outputs.
        module: group; a `milforge.training.MILModule`.
        trainer: group; a `lightning.Trainer`.
        callbacks: group; a mapping from name to callback.
        logger: group; a mapping from name to logger.
        paths: where runs are written.
    """

    task_name: str = MISSING
    seed: int = 0
    run: str | None = None
    sweep: str | None = None
    tags: list[str] = field(default_factory=list)
    ckpt_path: Any = None
    bags_alone: str | None = None
    data: Any = None
    split: Any = None
    graph: Any = None
    loader: Any = None
    task: Any = None
    loss: Any = None
    metrics: Any = None
    model: Any = None
    module: Any = None
    trainer: Any = None
    callbacks: Any = None
    logger: Any = None
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class TrainConfig(RunConfig):
    """Keys of `milforge-train`.

    Args:
        standardise: what the features are standardised by: `auto`, `train`, `all` or None; see
            `milforge.training.MILDataModule.standardiser`.
        standardise_clip: largest absolute value of a standardised feature; None: any.
        init_from: a checkpoint whose weights the network begins with, as far as they fit.
        freeze: part of the network, or several, that are not trained.
        monitor: metric that chooses the best epoch and stops early; None: that of the task.
        monitor_mode: whether that metric is to be smallest (min) or largest (max); None: as the
            metric says.
        optimized_metric: metric of the best epoch that a search goes by; None: `monitor`.
        compile: whether torch.compile is to make the network faster; it takes its time first.
        test: whether to test the best checkpoint after training.
        optimizer: group; builds the optimiser.
        scheduler: group; builds the learning-rate scheduler.
    """

    ckpt_path: str | None = None
    standardise: str | None = "auto"
    standardise_clip: float | None = 10.0
    init_from: str | None = None
    freeze: Any = None
    monitor: str | None = None
    monitor_mode: str | None = None
    optimized_metric: str | None = None
    compile: bool = False
    test: bool = True
    optimizer: Any = None
    scheduler: Any = None


@dataclass
class InferConfig(RunConfig):
    """Keys of `milforge-evaluate`, `milforge-predict` and `milforge-map`.

    Args:
        out_of_fold: whether all bags are test bags, each predicted by those checkpoints alone that
            were neither fitted on it nor selected by it.
        trust: a package, or a list of them, that the config of a checkpoint may name beside those
            of `milforge.config.checkpoints.trust`; it is read from the command line alone.
    """

    out_of_fold: bool = False
    trust: Any = None


@dataclass
class MapConfig(InferConfig):
    """Keys of `milforge-map`.

    Args:
        bags: the bags that are mapped.
        top: tiles in the GeoJSON of each.
        bands: bands of the score that are written as regions.
        score: what pictures show.
        slides: folder of the slides.
        mpp: micrometres of a pixel of level 0.
        tile_size: side of a tile in the units of the coords.
        ome_tiff: whether to write the maps as OME-TIFF, too.
        faithfulness: whether to measure how faithful the maps are.
    """

    bags: Any = None
    top: int | None = 5000
    bands: int | None = None
    score: str = "auto"
    slides: str | None = None
    mpp: float | None = None
    tile_size: float | None = None
    ome_tiff: bool = False
    faithfulness: bool = False


def register() -> None:
    """Makes the schemas known to Hydra."""
    store_config("train_schema", TrainConfig)
    store_config("run_schema", InferConfig)
    store_config("map_schema", MapConfig)
    store_config("stored_run", {})
