"""What a config may refer to besides its own keys."""

from milforge.config import run_folders, schema, search_metric
from milforge.config.hydra_versions import register_resolver


def prepare() -> None:
    """Makes the schemas known to Hydra, and the resolvers `run_dir`, `sweep_dir` and others."""
    schema.register()
    register_resolver("run_dir", run_folders.run_dir)
    register_resolver("sweep_dir", run_folders.sweep_dir)
    register_resolver("search_direction", search_metric.direction)
