"""Evaluation and prediction from a checkpoint."""

from pathlib import Path
from time import monotonic

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milforge.cli.build import (
    as_floats,
    make_data,
    make_network,
    make_trainer,
    quiet_run,
    seed_run,
    wandb_folder,
    write_config,
)
from milforge.cli.closing import print_run
from milforge.cli.stored import load_checkpoint, load_weights
from milforge.cli.summary import describe_data, write_summary
from milforge.training import BagClassification


def infer(config: DictConfig, *, evaluate: bool) -> dict[str, float]:
    """Tests or predicts the test bags with the weights of `ckpt_path`, and writes the run's folder.

    Returns:
        The test metrics; none where bags are only predicted.

    Raises:
        ValueError: where the checkpoint fits neither the data nor the model of the config.
    """
    start = monotonic()
    seed_run(config)
    checkpoint = load_checkpoint(config.ckpt_path)
    stored = checkpoint["milforge"]
    with quiet_run(config):
        data = make_data(config, "test")
        network = make_network(config, data)
        weights = stored["class_weights"]
        module = BagClassification(
            network,
            data.task,
            data.class_names,
            class_weights=None if weights is None else torch.tensor(weights),
            stored=stored,
        )
        load_weights(module, checkpoint, config.ckpt_path, data.instance_shape, data.class_names)
        trainer = make_trainer(config)
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
                checkpoint=config.ckpt_path,
                wall_seconds=round(monotonic() - start, 2),
                data=describe_data(data),
            )
            print_run(metrics, folder, None, wandb_folder(trainer))
    return metrics
