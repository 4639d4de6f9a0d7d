"""`milforge-train`: fits a network, tests its best epoch, writes the run's folder."""

from omegaconf import DictConfig

from milforge.cli.app import run
from milforge.cli.check import check_targets


def train(config: DictConfig) -> None:
    """Trains as the config says."""
    check_targets(config)
    # Only now: a wrong key is to be told in three seconds, and Lightning takes longer to import.
    from milforge.cli.fit import fit

    fit(config)


def main() -> None:
    """Entry point."""
    run(train, "train")


if __name__ == "__main__":
    main()
