"""`milforge-evaluate ckpt_path=FILE`: tests a checkpoint, on its own data or on others."""

from omegaconf import DictConfig

from milforge.cli.app import run
from milforge.cli.check import check_targets
from milforge.cli.stored import prepare


def evaluate(config: DictConfig) -> None:
    """Tests as the config says."""
    check_targets(config)
    from milforge.cli.infer import infer

    infer(config, evaluate=True)


def main() -> None:
    """Entry point."""
    run(evaluate, "evaluate", before=lambda: prepare("milforge-evaluate"))


if __name__ == "__main__":
    main()
