"""`milforge-predict ckpt_path=FILE`: writes probabilities and attention for bags."""

from omegaconf import DictConfig

from milforge.cli.common.app import launched, run
from milforge.config.checkpoints.checkpoint_config import prepare
from milforge.config.keys.key_check import check_targets


def predict(config: DictConfig) -> None:
    """Predicts as the config says."""
    check_targets(config)
    from milforge.api.trained.evaluation import infer

    infer(config, evaluate=False, launch=launched(config))


def main() -> None:
    """Entry point."""
    run(predict, "predict", before=lambda: prepare("milforge-predict"))


if __name__ == "__main__":
    main()
