"""`milforge-predict ckpt_path=FILE`: writes probabilities and attention for bags."""

from omegaconf import DictConfig

from milforge.cli.app import run
from milforge.cli.check import check_targets
from milforge.cli.stored import prepare


def predict(config: DictConfig) -> None:
    """Predicts as the config says."""
    check_targets(config)
    from milforge.cli.infer import infer

    infer(config, evaluate=False)


def main() -> None:
    """Entry point."""
    run(predict, "predict", before=lambda: prepare("milforge-predict"))


if __name__ == "__main__":
    main()
