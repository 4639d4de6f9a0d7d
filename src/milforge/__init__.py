"""Attention-based deep multiple-instance learning: operators, models, data and commands.

Importing the package costs nothing: the parts are imported by name, `milforge.nn`,
`milforge.data` and so on. `milforge.compose`, `milforge.fit` and `milforge.load` do from Python
what the commands do.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from milforge.api.compose import compose
    from milforge.api.trained.model import load
    from milforge.api.training import Run

__version__ = "0.1.0"
__all__ = ["compose", "fit", "load"]


def fit(config: "DictConfig") -> "Run":
    """Trains as a config says, tests the best epoch, and writes the run's folder.

    Args:
        config: as `compose` makes it.

    Returns:
        Its `folder`, `metrics` and best `checkpoint`.

    Raises:
        ValueError: for a config that does not fit the data or itself; the message names the key.
        OSError: where something cannot be read or written.
    """
    from milforge.api.compose import with_folder
    from milforge.api.training import fit as fit_run

    return fit_run(with_folder(config))


def __getattr__(name: str) -> Any:
    if name == "compose":
        from milforge.api.compose import compose

        return compose
    if name == "load":
        from milforge.api.trained.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
