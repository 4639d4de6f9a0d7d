"""`milforge-evaluate ckpt_path=FILE`: tests a checkpoint, on its own data or on others."""

from omegaconf import DictConfig

from milforge.cli.common.app import launched, run
from milforge.config.checkpoints.checkpoint_config import prepare
from milforge.config.keys.key_check import check_targets


def evaluate(config: DictConfig) -> None:
    """Tests as the config says."""
    check_targets(config)
    from milforge.api.trained.evaluation import infer

    infer(config, evaluate=True, launch=launched(config))


def main() -> None:
    """Entry point."""
    run(evaluate, "evaluate", before=lambda: prepare("milforge-evaluate"))


if __name__ == "__main__":
    main()
