"""`milforge-train`: fits a network, tests its best epoch, writes the run's folder."""

import math

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milforge.cli.app import run
from milforge.cli.check import check_targets
from milforge.cli.sweep import check_metric, is_search


def train(config: DictConfig) -> float | None:
    """Trains as the config says.

    Returns:
        The value that a search goes by, in the best epoch; None where the run has none.
    """
    check_targets(config)
    check_metric(config.optimized_metric)
    # Only now: a wrong key is to be told in three seconds, and Lightning takes longer to import.
    from milforge.cli.fit import fit

    metrics = fit(config)
    name = config.optimized_metric or config.monitor
    value = metrics.get(name)
    if value is not None and math.isfinite(value):
        return value
    if is_search(HydraConfig.get()):
        print(f"this trial counts as failed: {name} is {value} (there are {', '.join(metrics)})")
    return None


def main() -> None:
    """Entry point."""
    run(train, "train")


if __name__ == "__main__":
    main()
