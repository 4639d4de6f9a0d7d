"""`milforge-train`: fits a network, tests its best epoch, writes the run's folder."""

import math

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milforge.cli.common.app import launched, run
from milforge.cli.common.sweep import is_search
from milforge.config.keys.key_check import check_targets
from milforge.config.search_metric import check_metric, goal


def train(config: DictConfig) -> float | None:
    """Trains as the config says.

    Returns:
        The value that a search goes by, in the best epoch; None where the run has none.
    """
    check_targets(config)
    check_metric(config.optimized_metric)
    # Imported here because a wrong key is to be reported before Lightning, which takes seconds.
    from milforge.api.training import fit

    metrics = fit(config, launched(config)).metrics
    name = goal(config)
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
