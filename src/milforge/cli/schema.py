"""The top-level keys of the commands; any other is refused."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


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
        data: group; a `BagDataModule`.
        model: group; builds the network from the shape of an instance and the number of outputs.
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
    data: Any = None
    model: Any = None
    trainer: Any = None
    callbacks: Any = None
    logger: Any = None
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class TrainConfig(RunConfig):
    """Keys of `milforge-train`.

    Args:
        class_weights: `balanced` weighs each bag against the frequency of its class.
        monitor: metric that chooses the best epoch and stops early.
        monitor_mode: whether that metric is to be smallest (min) or largest (max).
        optimized_metric: metric of the best epoch that a search goes by; None: `monitor`.
        compile: whether torch.compile is to make the network faster; it takes its time first.
        test: whether to test the best checkpoint after training.
        optimizer: group; builds the optimiser.
        scheduler: group; builds the learning-rate scheduler.
    """

    ckpt_path: str | None = None
    class_weights: str | None = None
    monitor: str = "val/loss"
    monitor_mode: str = "min"
    optimized_metric: str | None = None
    compile: bool = False
    test: bool = True
    optimizer: Any = None
    scheduler: Any = None


def register() -> None:
    """Makes the schemas known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="run_schema", node=RunConfig)
    store.store(name="stored_run", node={})
